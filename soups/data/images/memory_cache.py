"""Images that are looked at again and again, decoded once and held in memory where no cache file has them."""

from collections.abc import Sequence

import numpy as np

from soups.data.images.cache import Images

LIMIT_BYTES = 2**31
"""What is held at the most; images beyond it are decoded each time."""


class MemoryCachedImages(Images):
    """The same pixels as the images given; those without a cache file stay in memory once they have been asked for."""

    def __init__(self, images: Images, limit_bytes: int = LIMIT_BYTES) -> None:
        super().__init__(images.paths, images.geometry, images.file)
        self._slots, self._distinct = images._slots, images._distinct  # They may be a part of what the file holds.
        self._limit = limit_bytes // (3 * images.geometry.crop**2)
        self._held: dict[int, np.ndarray] = {}

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Several images at once: (B, S, S, 3) uint8, their own memory."""
        if self.cached:
            return super().take(indices)
        wanted = [int(index) for index in indices]
        missing = [index for index in dict.fromkeys(wanted) if index not in self._held]
        fresh = dict(zip(missing, super().take(missing), strict=True))
        room = self._limit - len(self._held)
        self._held |= {index: fresh[index].copy() for index in missing[:room]}
        return np.stack([fresh[index] if index in fresh else self._held[index] for index in wanted])
