"""Maps for images of a run."""
