"""Weighted means of state dicts and of weight files."""
