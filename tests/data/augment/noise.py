"""Images of noise and random crops, for the tests of augmentation."""

from typing import Any

import numpy as np

from soups.data.augment.augment import Augmentation
from soups.data.augment.crops import RandomCrop
from soups.data.augment.rand_augment import RandAugment


def noise(height: int = 37, width: int = 37) -> np.ndarray:
    """Return (height, width, 3) uint8 of uniform noise."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crops(size: int, rand_augment: str | None = None) -> Augmentation:
    """Return random crops, with a RandAugment after them if its string is given."""
    steps: tuple[Any, ...] = (RandomCrop(size),)
    return Augmentation(size, steps if rand_augment is None else (*steps, RandAugment(rand_augment, size)))
