"""Training the fine-tunes of a run, their logs and their costs."""
