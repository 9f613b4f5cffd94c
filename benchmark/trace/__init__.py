"""The way back from a published image to the weights that found it."""
