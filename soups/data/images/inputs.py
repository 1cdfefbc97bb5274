"""Images however somebody has them: files, opened pictures or arrays, one or many, in any mixture."""

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
"""What one image may be."""


def as_list(images: "InputImage | Iterable[InputImage]") -> "list[InputImage]":
    """One image or several as a list of single images, in order; a batch (N, H, W, 3) becomes N of them.

    Raises:
        DataError: something that is neither an image nor made of images.
    """
    from PIL import Image

    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        # Paths that were kept in an array, such as a column of a table, are a list like any other.
        return list(images) if images.ndim == 4 or (images.dtype.kind in "OU" and images.ndim == 1) else [images]
    if not isinstance(images, Iterable) or isinstance(images, bytes):
        raise DataError("not an image", expected=f"{ACCEPTED_TYPES}, or several of these", found=_type_name(images))
    found: list[InputImage] = []
    for image in images:
        found += list(image) if isinstance(image, np.ndarray) and image.ndim == 4 else [image]
    return found


def read_input(image: "InputImage", name: str = "the image") -> np.ndarray:
    """The pixels of one image; those of a file and of the picture that Pillow opens from it are the same.

    Args:
        image: a path, a `PIL.Image` of any mode (of an animation, the frame that it shows), or an array (H, W, 3)
            uint8, RGB, [0, 255].
        name: what the image is called in messages.

    Returns:
        (H, W, 3) uint8, RGB, [0, 255]; of an array, the array itself.

    Raises:
        DataError: a file that cannot be read, or something else; says which image and what it is.
    """
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        return decode(Path(image))
    if isinstance(image, Image.Image):
        try:
            with suppress_pillow_warnings():
                return pil_to_array(image)
        except Exception as error:  # As when files are read.
            raise DataError(f"{name}: {failure_reason(error)}", expected="a whole picture") from error
    if not isinstance(image, np.ndarray):
        raise DataError(f"{name}: not an image", expected=ACCEPTED_TYPES, found=_type_name(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        scaled = np.issubdtype(image.dtype, np.floating)
        raise DataError(
            f"{name}: not an array of pixels",
            expected="(H, W, 3) uint8, RGB in [0, 255]",
            found=f"{image.shape} {image.dtype}",
            next_step="of values in [0, 1], make (255 * image).round().astype('uint8')" if scaled else "",
        )
    return image


class InputImages(Images):
    """Images that were brought to one size when they were given, and are held in memory."""

    def __init__(self, pixels: Sequence[np.ndarray], geometry: Geometry) -> None:
        """
        Args:
            pixels: N images (S, S, 3) uint8, with S = `geometry.crop`.
            geometry: what was done to them.
        """
        super().__init__([Path(f"images[{index}]") for index in range(len(pixels))], geometry)
        self._held = list(pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._held[index]

    @property
    def cached(self) -> bool:
        """Nothing is left to be decoded."""
        return True


def open_inputs(images: "InputImage | Iterable[InputImage]", geometry: Geometry, folder: Path) -> Images:
    """Images of any kind, ready to be read.

    Files alone are decoded when they are needed; else all images are brought to the geometry's size and held.

    Args:
        images: one, or several in any mixture; see `as_list`.
        geometry: what is done to each.
        folder: where it is kept which files are known to be readable.

    Raises:
        DataError: images that cannot be read; names them, by their place where they have no path.
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
