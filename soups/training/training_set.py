"""What a fine-tune is trained on."""

from dataclasses import dataclass

import numpy as np

from soups.data.augment.augment import Augmentation
from soups.data.images.cache import Images


@dataclass(frozen=True)
class TrainingSet:
    """Images to train on."""

    images: Images
    """Pixels at the training geometry."""
    labels: np.ndarray
    """(N,) int64 class indices."""
    rows: np.ndarray
    """(M,) positions in [0, N) that make an epoch; a position may come more than once (oversampling)."""
    augmentation: Augmentation
    copies: Augmentation | None = None
    """What is done to all but the first of a position that comes more than once, where that is something else."""
    chances: np.ndarray | None = None
    """(M,) with which each entry of `rows` is drawn, with replacement; None: each once an epoch."""
    class_weights: np.ndarray | None = None
    """(C,) how much an image of each class counts in the loss; None: all alike."""
