"""Models, images, metrics and evaluation: everything that measures a classifier."""
