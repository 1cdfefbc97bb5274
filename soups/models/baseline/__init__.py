"""The small convolutional baseline network."""
