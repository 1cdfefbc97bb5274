"""Decoding of image files of any format to RGB arrays, with one-line reasons for files that cannot be decoded."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError, one_line
from soups.core.processors import available_cores
from soups.core.progress import track

if TYPE_CHECKING:
    from PIL import Image

# Formats that are safe to read; EPS, for example, would run Ghostscript on the file's content.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO"),
    *("PNG", "PPM", "TGA", "TIFF", "WEBP"),
)
_ORIENTATION = 0x0112


def decode(path: Path) -> np.ndarray:
    """Decode an image file to pixels as an image viewer displays it.

    Applies EXIF rotation, composites transparency on white, converts grey, palette and CMYK to RGB, and takes the first
    frame of an animation. 16-bit grey is scaled to 8 bits. 32-bit values have no defined range, so their scale depends
    on the image's range: values in [0, 1] are multiplied by 255, in [0, 255] rounded, in [0, 65535] divided by 257,
    others mapped linearly from [minimum, maximum]. Values that are not finite become the minimum.

    Returns:
        (H, W, 3) uint8, RGB, [0, 255], a new array.

    Raises:
        DataError: the file is missing, not a regular file, empty, not an image, truncated, damaged or larger than 178
            million pixels.
    """
    with suppress_pillow_warnings():
        return read_pixels(path)


def find_unreadable(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return the paths that cannot be decoded, in order, each with a reason.

    Decodes every file completely, in threads, because a truncated file can often be opened.
    """
    with suppress_pillow_warnings(), ThreadPoolExecutor(thread_count()) as pool:
        reasons = pool.map(_unreadable_reason, paths)
        return [
            (path, reason)
            for path, reason in zip(paths, track(reasons, "checking images", total=len(paths)), strict=True)
            if reason is not None
        ]


def unreadable_error(bad: Sequence[tuple[Path, str]]) -> DataError:
    """Return one error that lists all unreadable images, from pairs of path and reason."""
    lines = "".join(f"\n  {path}: {reason}" for path, reason in bad)
    return DataError(
        f"{len(bad)} image{'s' if len(bad) != 1 else ''} cannot be read:{lines}",
        expected="complete image files",
        next_step="repair or remove them; --skip-bad-images skips those of the training set",
    )


@contextmanager
def suppress_pillow_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings (EXIF, palettes, large images) in this thread and in threads started within."""
    # Python's warning filters are global to the process, so threads must not set them individually.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_pixels(path: Path) -> np.ndarray:
    """Decode as `decode`, for threads within one `suppress_pillow_warnings`."""
    from PIL import Image

    _check_regular_file(path)
    try:
        with Image.open(path, formats=_readable_formats()) as opened:
            return pil_to_array(opened)
    except Exception as error:
        # Pillow's readers raise many types of exception on damaged files: OSError, SyntaxError, ValueError, TypeError,
        # OverflowError, struct.error, DecompressionBombError, …
        raise DataError(f"{path}: {failure_reason(error)}", expected="a complete image file") from error


@cache
def _readable_formats() -> tuple[str, ...]:
    """Return the formats that the installed Pillow reads; HEIF if pillow-heif is installed."""
    from PIL import Image

    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def thread_count() -> int:
    """Return the number of threads to decode with."""
    return min(16, available_cores())


def _unreadable_reason(path: Path) -> str | None:
    """Return why a file cannot be decoded; None if it can."""
    try:
        read_pixels(path)
    except DataError as error:
        return error.problem.removeprefix(f"{path}: ")
    return None


def _check_regular_file(path: Path) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116 -- called for every image.
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or "unreadable").lower()
        raise DataError(f"{path}: {reason}", expected="an image file") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise DataError(f"{path}: {kind}, not a file", expected="an image file")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty", expected="an image file")


def failure_reason(error: Exception) -> str:
    """Return a short reason for an exception of one of Pillow's readers."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than is safe to decode"
    if isinstance(error, PermissionError):
        return "no permission to read"
    return f"damaged ({one_line(error, 120)})"


def pil_to_array(opened: "Image.Image") -> np.ndarray:
    """Return the pixels of an opened image, as `decode` of its file. Call it within `suppress_pillow_warnings`.

    Raises:
        Exception: the rest of its file is damaged; the type depends on the format.
    """
    from PIL import Image

    opened.load()
    image = _apply_exif_rotation(opened)
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        values = np.asarray(image)
        # [0, 65535] → [0, 255], rounded. Pillow's PPM reader scales to 16 bits.
        if image.mode.startswith("I;16") or (opened.format == "PPM" and image.mode == "I"):
            grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        else:
            grey = _scale_by_range(values)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _apply_exif_rotation(image: "Image.Image") -> "Image.Image":
    """Rotate and flip an image by its EXIF orientation; unchanged if EXIF is missing or damaged.

    Pillow's `exif_transpose` also rewrites the EXIF block and fails on some readable ones.
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Damaged EXIF raises many types of exception; the pixels are valid.
        return image
    return image if turn is None else image.transpose(turn)


def _scale_by_range(values: np.ndarray) -> np.ndarray:
    """Scale 32-bit values to (H, W) uint8 by the image's own range, see `decode`."""
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("no finite pixel")
    low, high = float(finite.min()), float(finite.max())
    values = np.where(np.isfinite(values), values, low)
    if low < 0 or high > 65535:
        scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    else:
        scaled = values * (255 if high <= 1 else 1 if high <= 255 else 1 / 257)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)
