"""Hyperparameters, learning-rate schedule, losses and one fine-tune; no runs and no files of a run."""
