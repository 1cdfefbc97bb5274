"""Comparison tables of a run, and studies over runs."""
