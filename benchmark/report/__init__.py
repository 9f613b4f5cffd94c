"""Records as a page, figures and tables that a person wants to read."""
