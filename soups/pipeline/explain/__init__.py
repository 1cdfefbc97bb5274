"""Saliency maps of a run's images."""
