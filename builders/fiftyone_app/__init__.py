"""FiftyOne and its MongoDB, started so that they listen on this machine only."""
