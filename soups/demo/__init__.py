"""The embedded demo: real handwriting to learn from, and a start that knows print."""
