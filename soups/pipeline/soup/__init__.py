"""Soups of a run."""
