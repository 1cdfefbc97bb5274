"""An in-memory cache of decoded images, for repeated evaluation without a cache file."""

from collections.abc import Sequence

import numpy as np

from soups.data.images.cache import Images

LIMIT_BYTES = 2**31
"""Maximum size of the cache, 2 GiB; images beyond it are decoded each time."""


class MemoryCachedImages(Images):
    """Images that stay in memory after they are first read, if they have no cache file."""

    def __init__(self, images: Images, limit_bytes: int = LIMIT_BYTES) -> None:
        super().__init__(images.paths, images.geometry, images.file)
        self._slots = images._slots  # `images` may be a subset of a file.
        self._limit = limit_bytes // (3 * images.geometry.crop**2)
        self._decoded: dict[int, np.ndarray] = {}

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return a copy of the images at these indices, (B, S, S, 3) uint8."""
        if self.cached:
            return super().take(indices)
        rows = [int(index) for index in indices]
        missing = [index for index in dict.fromkeys(rows) if index not in self._decoded]
        fresh = dict(zip(missing, super().take(missing), strict=True))
        free = self._limit - len(self._decoded)
        self._decoded |= {index: fresh[index].copy() for index in missing[:free]}
        return np.stack([fresh[index] if index in fresh else self._decoded[index] for index in rows])
