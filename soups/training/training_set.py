"""Training data of a fine-tune."""

from dataclasses import dataclass

import numpy as np

from soups.data.augment.augment import Augmentation
from soups.data.images.cache import Images


@dataclass(frozen=True)
class TrainingSet:
    """Images, labels and augmentation of a fine-tune."""

    images: Images
    """Pixels at the training geometry."""
    labels: np.ndarray
    """(N,) int64 class indices."""
    rows: np.ndarray
    """(M,) positions in [0, N) that make an epoch; a position may occur more than once (oversampling)."""
    augmentation: Augmentation
    copies: Augmentation | None = None
    """Augmentation of all but the first occurrence of a position; None: the same augmentation."""
    chances: np.ndarray | None = None
    """(M,) probability of each entry of `rows`, drawn with replacement; None: each entry once an epoch."""
    class_weights: np.ndarray | None = None
    """(C,) weight of an image of each class in the loss; None: equal weights."""
