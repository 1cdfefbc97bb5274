"""Checkpoints of other tools: finding their state dicts and translating the keys to ours."""
