"""A linear head on the frozen features of any encoder."""
