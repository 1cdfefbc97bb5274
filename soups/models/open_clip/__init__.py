"""Backbones of open_clip."""
