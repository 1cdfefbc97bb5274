"""Errors, labels, preprocessing, metrics and statistics; no files, no torch."""
