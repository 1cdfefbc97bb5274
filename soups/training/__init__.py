"""Floor 5: hyperparameters, schedule, losses and one fine-tune."""
