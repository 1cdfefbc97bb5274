"""The folder of a run: creating, opening and reading it. No scoring and no training."""
