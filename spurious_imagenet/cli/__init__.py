"""The ``spurious`` command: one module per subcommand."""
