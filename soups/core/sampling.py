"""Selection of evenly spaced items."""

import numpy as np


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Return min(count, total) indices of [0, total), evenly spaced with both ends included, (K,) int64.

    A `count` of 1 returns the first index.
    """
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
