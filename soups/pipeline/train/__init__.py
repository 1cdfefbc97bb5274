"""Fine-tunes of a run."""
