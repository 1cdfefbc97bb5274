"""HTML pages of images in a single file."""
