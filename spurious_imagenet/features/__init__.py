"""Features of images, stored once and read by every stage."""
