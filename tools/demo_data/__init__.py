"""Data and start models of the embedded demos: handwritten digits and drawn faces."""
