"""Training augmentation."""
