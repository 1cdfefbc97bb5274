"""Classifiers: a backbone of open_clip, timm or our own with a linear head, built, loaded and exported."""
