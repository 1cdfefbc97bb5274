"""Deterministic preprocessing of an image: resize and centre crop. Normalisation and augmentation are not here."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing

CACHE_MARGIN = 1.15

# Above this aspect ratio, only the cropped part is resized: an image of 1 × 60,000 pixels would otherwise grow to
# 224 × 13 million.
_LONG = 50


@dataclass(frozen=True)
class Geometry:
    """An optional centre cut of the original image, a resize, then a square centre crop.

    Attributes:
        resize: length of the shorter side after resizing in pixels, or of both sides with `squash`.
        crop: side of the square centre crop in pixels, at most `resize`.
        interpolation: `bicubic`, `bilinear`, `nearest` or `lanczos`, with Pillow's antialiasing.
        mode: `shortest` preserves the aspect ratio, `squash` does not.
        cut: height and width of the centre cut in pixels of the original image, limited to its size; None: no cut.
    """

    resize: int
    crop: int
    interpolation: str = "bicubic"
    mode: Literal["shortest", "squash"] = "shortest"
    cut: tuple[int, int] | None = None


def evaluation_geometry(preprocessing: Preprocessing) -> Geometry:
    """Return the geometry of a model's evaluation images."""
    resized, size = preprocessing.resized, preprocessing.size
    return Geometry(resized, size, preprocessing.interpolation, preprocessing.resize, preprocessing.cut)


def training_geometry(preprocessing: Preprocessing, cache_size: int | None = None) -> Geometry:
    """Return the geometry of images that random crops are taken from: the whole centre square.

    Args:
        preprocessing: the model's preprocessing.
        cache_size: side in pixels; None: 1.15 × the model's input.

    Raises:
        UsageError: `cache_size` is smaller than the model's input.
    """
    side = round(CACHE_MARGIN * preprocessing.size) if cache_size is None else cache_size
    if side < preprocessing.size:
        raise UsageError(
            f"--cache-size {side}: smaller than the model's input",
            expected=f"at least {preprocessing.size} pixels",
            next_step="remove --cache-size, for 1.15 × the input",
        )
    return Geometry(side, side, preprocessing.interpolation, preprocessing.resize, preprocessing.cut)


def resize_and_crop(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Resize and crop, equal bit for bit to open_clip's evaluation transform before `ToTensor`.

    Args:
        image: (H, W, 3) uint8, RGB.
        geometry: resizing and cropping; S = `geometry.crop`.

    Returns:
        (S, S, 3) uint8, a new array.
    """
    from PIL import Image

    filter_ = Image.Resampling[geometry.interpolation.upper()]
    left, top, width, height = _cut_box(image.shape[1], image.shape[0], geometry)
    picture, side = Image.fromarray(image[top : top + height, left : left + width]), geometry.crop
    width, height = _resized_size(picture.width, picture.height, geometry)
    if max(width, height) > _LONG * geometry.resize:
        box = _crop_box(picture.width, picture.height, geometry)
        return np.array(picture.resize((side, side), filter_, box=box))
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), filter_)
    return np.array(picture.crop((left, top, left + side, top + side)))


def visible_box(width: int, height: int, geometry: Geometry) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom, in pixels of the image, of the part that `resize_and_crop` uses.

    The centre of pixel (row, column) of the S × S result lies at x = left + (column + ½) · (right - left) / S and y =
    top + (row + ½) · (bottom - top) / S of the image.
    """
    cut_left, cut_top, cut_width, cut_height = _cut_box(width, height, geometry)
    left, top, right, bottom = _crop_box(cut_width, cut_height, geometry)
    return cut_left + left, cut_top + top, cut_left + right, cut_top + bottom


def _crop_box(width: int, height: int, geometry: Geometry) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the centre crop in pixels of an image before resizing."""
    resized_width, resized_height = _resized_size(width, height, geometry)
    side = geometry.crop
    left, top = round((resized_width - side) / 2.0), round((resized_height - side) / 2.0)
    scale_x, scale_y = width / resized_width, height / resized_height
    return left * scale_x, top * scale_y, (left + side) * scale_x, (top + side) * scale_y


def _cut_box(width: int, height: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """Return left, top, width and height in pixels of the cut, which is the whole image by default.

    Rounded as torchvision's `CenterCrop`, but without padding of small images.
    """
    limit_height, limit_width = geometry.cut or (height, width)
    cut_width, cut_height = min(width, limit_width), min(height, limit_height)
    return round((width - cut_width) / 2.0), round((height - cut_height) / 2.0), cut_width, cut_height


def _resized_size(width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """Return width and height after resizing, rounded down as torchvision's `Resize` does."""
    if geometry.mode == "squash":
        return geometry.resize, geometry.resize
    longer = int(geometry.resize * max(width, height) / min(width, height))
    return (geometry.resize, longer) if width <= height else (longer, geometry.resize)
