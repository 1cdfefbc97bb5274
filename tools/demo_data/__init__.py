"""The embedded demos: real handwriting with a start that knows print, and drawn people with one that knows icons."""
