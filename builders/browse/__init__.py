"""Images, candidates and rankings, looked at in FiftyOne."""
