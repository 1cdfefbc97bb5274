"""Tables and pictures from arrays and files alone."""
