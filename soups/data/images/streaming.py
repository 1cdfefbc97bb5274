"""Images that are looked at once: decoded a batch at a time, in threads, and not kept."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from soups.core.errors import DataError
from soups.data.images.cache import Images, map_in_threads, try_image
from soups.data.images.decode import find_unreadable, suppress_pillow_warnings, unreadable_error


class StreamedImages(Images):
    """The same pixels as those of `Images`; nobody has checked before that they can be read."""

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Several images at once: (B, S, S, 3) uint8, their own memory.

        Raises:
            DataError: images that cannot be read; lists all of the set, not only those of the batch.
        """
        side = self.geometry.crop
        taken = np.empty((len(indices), side, side, 3), dtype=np.uint8)
        with suppress_pillow_warnings():
            paths = [self.paths[int(index)] for index in indices]
            for place, pixels in enumerate(map_in_threads(partial(try_image, self.geometry), paths)):
                if isinstance(pixels, DataError):
                    raise unreadable_error(find_unreadable(self.paths)) from pixels
                taken[place] = pixels
        return taken
