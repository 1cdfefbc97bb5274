"""Images as the Python API accepts them: paths, PIL images or arrays, one or several, also mixed."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from soups.core.errors import DataError
from soups.data.images.cache import Images, open_images
from soups.data.images.decode import decode, failure_reason, pil_to_array, suppress_pillow_warnings
from soups.data.images.geometry import Geometry, resize_and_crop

if TYPE_CHECKING:
    from PIL import Image

    InputImage: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray

ACCEPTED_TYPES = "a path, a PIL.Image, or an array (H, W, 3) uint8, RGB in [0, 255]"
"""Accepted types of one image, for messages."""


def as_list(images: "InputImage | Iterable[InputImage]") -> "list[InputImage]":
    """Return one or several images as a list of single images; an array (N, H, W, 3) becomes N images.

    Raises:
        DataError: the value is neither an image nor a collection of images.
    """
    from PIL import Image

    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        # An array of paths, such as a column of a table, is a list of images.
        return list(images) if images.ndim == 4 or (images.dtype.kind in "OU" and images.ndim == 1) else [images]
    if not isinstance(images, Iterable) or isinstance(images, bytes):
        raise DataError("not an image", expected=f"{ACCEPTED_TYPES}, or several of these", found=_type_name(images))
    singles: list[InputImage] = []
    for image in images:
        singles += list(image) if isinstance(image, np.ndarray) and image.ndim == 4 else [image]
    return singles


def read_input(image: "InputImage", name: str = "the image") -> np.ndarray:
    """Return the pixels of one image; a path and the PIL image opened from it give the same pixels.

    Args:
        image: a path, a `PIL.Image` of any mode (an animation's current frame), or an array (H, W, 3) uint8, RGB,
            [0, 255].
        name: the image's name in messages.

    Returns:
        (H, W, 3) uint8, RGB, [0, 255]; an array is returned itself, not a copy.

    Raises:
        DataError: a file cannot be read, or the type or shape is not accepted.
    """
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        return decode(Path(image))
    if isinstance(image, Image.Image):
        try:
            with suppress_pillow_warnings():
                return pil_to_array(image)
        except Exception as error:  # Pillow raises many types of exception, see `read_pixels`.
            raise DataError(f"{name}: {failure_reason(error)}", expected="a complete image") from error
    if not isinstance(image, np.ndarray):
        raise DataError(f"{name}: not an image", expected=ACCEPTED_TYPES, found=_type_name(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        scaled = np.issubdtype(image.dtype, np.floating)
        raise DataError(
            f"{name}: not an array of pixels",
            expected="(H, W, 3) uint8, RGB in [0, 255]",
            found=f"{image.shape} {image.dtype}",
            next_step="convert values in [0, 1] by (255 * image).round().astype('uint8')" if scaled else "",
        )
    return image


class InputImages(Images):
    """Images in memory, already resized and cropped."""

    def __init__(self, pixels: Sequence[np.ndarray], geometry: Geometry) -> None:
        """
        Args:
            pixels: N images (S, S, 3) uint8, with S = `geometry.crop`.
            geometry: the resizing and cropping that was applied to them.
        """
        super().__init__([Path(f"images[{index}]") for index in range(len(pixels))], geometry)
        self._images = list(pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[index]

    @property
    def cached(self) -> bool:
        """True: all images are decoded."""
        return True


def open_inputs(images: "InputImage | Iterable[InputImage]", geometry: Geometry, folder: Path) -> Images:
    """Open images of any accepted type.

    If all are paths, they are decoded on demand. Otherwise all images are decoded, resized and stored in memory.

    Args:
        images: one or several images, see `as_list`.
        geometry: resizing and cropping of each.
        folder: cache folder for markers of image files that were decoded successfully.

    Raises:
        DataError: images cannot be read; names an image without a path by its index.
    """
    singles = as_list(images)
    paths = [Path(image) for image in singles if isinstance(image, str | os.PathLike)]
    if len(paths) == len(singles):
        return open_images(paths, geometry, "off", folder)
    ready, bad = [], []
    for index, image in enumerate(singles):
        try:
            name = f"images[{index}]" if len(singles) > 1 else "the image"
            ready.append(resize_and_crop(read_input(image, name), geometry))
        except DataError as error:
            bad.append(error)
    if bad:
        first, more = bad[0], f" (and {len(bad) - 1} more images)" if len(bad) > 1 else ""
        raise DataError(first.problem + more, expected=first.expected, found=first.found, next_step=first.next_step)
    return InputImages(ready, geometry)


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
