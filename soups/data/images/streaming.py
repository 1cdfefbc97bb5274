"""Images for a single pass: decoded in threads, one batch at a time, without any cache."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from soups.core.errors import DataError
from soups.data.images.cache import Images, map_in_threads, try_image
from soups.data.images.decode import find_unreadable, suppress_pillow_warnings, unreadable_error


class StreamedImages(Images):
    """Images with the same pixels as `Images`, whose files are not checked in advance."""

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode the images at these indices, (B, S, S, 3) uint8.

        Raises:
            DataError: images cannot be read; lists all unreadable images of the set, not only those of the batch.
        """
        side = self.geometry.crop
        taken = np.empty((len(indices), side, side, 3), dtype=np.uint8)
        with suppress_pillow_warnings():
            paths = [self.paths[int(index)] for index in indices]
            for position, pixels in enumerate(map_in_threads(partial(try_image, self.geometry), paths)):
                if isinstance(pixels, DataError):
                    raise unreadable_error(find_unreadable(self.paths)) from pixels
                taken[position] = pixels
        return taken
