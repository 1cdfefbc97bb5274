"""The deterministic part of an image's way to the model: resize and centred cut."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing

CACHE_MARGIN = 1.15

# From this ratio of the sides on, only the part that the cut keeps is resized: a line of 1 × 60,000 pixels would
# otherwise grow to 224 × 13 million.
_LONG = 50


@dataclass(frozen=True)
class Geometry:
    """Resize, then a centred square cut; with `cut`, of the middle of the image alone.

    Attributes:
        resize: pixels of the shorter side after resizing, or of both sides with `squash`.
        crop: side of the centred square that is kept, at most `resize`.
        interpolation: `bicubic`, `bilinear`, `nearest` or `lanczos`, antialiased as Pillow does it.
        mode: `shortest` keeps the aspect ratio, `squash` does not.
        cut: height and width of the middle that is kept first, in the image's own pixels, as far as it has so many.
    """

    resize: int
    crop: int
    interpolation: str = "bicubic"
    mode: Literal["shortest", "squash"] = "shortest"
    cut: tuple[int, int] | None = None


def evaluation_geometry(preprocessing: Preprocessing) -> Geometry:
    """What the model expects of an image that is evaluated."""
    return Geometry(
        preprocessing.resized,
        preprocessing.size,
        preprocessing.interpolation,
        preprocessing.resize,
        preprocessing.cut,
    )


def training_geometry(preprocessing: Preprocessing, cache_size: int | None = None) -> Geometry:
    """What random crops are cut from: the whole centred square, `cache_size` pixels a side (default 1.15 × the input).

    Raises:
        UsageError: the cached image would be smaller than the input.
    """
    side = round(CACHE_MARGIN * preprocessing.size) if cache_size is None else cache_size
    if side < preprocessing.size:
        raise UsageError(
            f"--cache-size {side}: smaller than the model's input",
            expected=f"at least {preprocessing.size} pixels",
            next_step="leave --cache-size out for 1.15 × the input",
        )
    return Geometry(side, side, preprocessing.interpolation, preprocessing.resize, preprocessing.cut)


def resize_and_crop(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Resize and cut, bit for bit as open_clip's evaluation transform before `ToTensor`.

    Args:
        image: (H, W, 3) uint8, RGB.
        geometry: gives S = `geometry.crop`.

    Returns:
        (S, S, 3) uint8, its own memory.
    """
    from PIL import Image

    filter_ = Image.Resampling[geometry.interpolation.upper()]
    picture, side = Image.fromarray(image if geometry.cut is None else _cut_centre(image, geometry.cut)), geometry.crop
    width, height = _resized_size(picture.width, picture.height, geometry)
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)
    if max(width, height) > _LONG * geometry.resize:
        return np.array(
            picture.resize((side, side), filter_, box=_centred_box(picture.width, picture.height, geometry))
        )
    if (width, height) != picture.size:
        picture = picture.resize((width, height), filter_)
    return np.array(picture.crop((left, top, left + side, top + side)))


def visible_box(width: int, height: int, geometry: Geometry) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of an image that `resize_and_crop` keeps, in the image's own pixels.

    Pixel (row, column) of the S × S result shows the place (left + (column + ½) · (right - left) / S, top + (row + ½) ·
    (bottom - top) / S) of the image.
    """
    kept_width, kept_height = width, height
    if geometry.cut is not None:
        kept_height, kept_width = (min(have, keep) for have, keep in zip((height, width), geometry.cut, strict=True))
    across, down = round((width - kept_width) / 2.0), round((height - kept_height) / 2.0)
    left, top, right, bottom = _centred_box(kept_width, kept_height, geometry)
    return left + across, top + down, right + across, bottom + down


def _centred_box(width: int, height: int, geometry: Geometry) -> tuple[float, float, float, float]:
    """The centred square in the pixels of an image of this size, before it is resized."""
    resized_width, resized_height = _resized_size(width, height, geometry)
    side = geometry.crop
    left, top = round((resized_width - side) / 2.0), round((resized_height - side) / 2.0)
    across, down = width / resized_width, height / resized_height
    return left * across, top * down, (left + side) * across, (top + side) * down


def _cut_centre(image: np.ndarray, cut: tuple[int, int]) -> np.ndarray:
    """The centre of an image, rounded as torchvision's `CenterCrop` does, without its black frame for small images."""
    height, width = (min(have, keep) for have, keep in zip(image.shape, cut, strict=False))
    top, left = round((image.shape[0] - height) / 2.0), round((image.shape[1] - width) / 2.0)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _resized_size(width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """Width and height after resizing, rounded as torchvision's `Resize` does (down)."""
    if geometry.mode == "squash":
        return geometry.resize, geometry.resize
    longer = int(geometry.resize * max(width, height) / min(width, height))
    return (geometry.resize, longer) if width <= height else (longer, geometry.resize)
