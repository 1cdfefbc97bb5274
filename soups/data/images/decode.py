"""From an image file of any kind to RGB pixels, or to one sentence on why that cannot be."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.processors import available_cores
from soups.core.progress import track

if TYPE_CHECKING:
    from PIL import Image

# Readers that are made for pictures; EPS would start Ghostscript on whatever the file says.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO"),
    *("PNG", "PPM", "TGA", "TIFF", "WEBP"),
)
_ORIENTATION = 0x0112


def decode(path: Path) -> np.ndarray:
    """The pixels of an image file as people see them.

    EXIF rotation is applied; transparency is composited on white; grey, palette and CMYK become RGB; of an animation
    it is the first frame. 16-bit grey is scaled to 8 bits. Numbers of 32 bits say nothing of their range, so it is
    judged by the image: values in [0, 1] are scaled by 255, in [0, 255] rounded, in [0, 65535] divided by 257, others
    stretched from their least to their greatest; what is not finite becomes the least.

    Returns:
        (H, W, 3) uint8, RGB, [0, 255], its own memory.

    Raises:
        DataError: the file is missing, no regular file, empty, no image, cut short, damaged or over 178 million pixels.
    """
    with suppress_pillow_warnings():
        return read_pixels(path)


def find_unreadable(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """The paths that `decode` refuses, each with the reason in a few words, in the order given.

    Every file is decoded in full, in threads, since a file that opens may still be cut short.
    """
    with suppress_pillow_warnings(), ThreadPoolExecutor(thread_count()) as pool:
        reasons = pool.map(_unreadable_reason, paths)
        return [
            (path, reason)
            for path, reason in zip(paths, track(reasons, "checking images", total=len(paths)), strict=True)
            if reason is not None
        ]


def unreadable_error(bad: Sequence[tuple[Path, str]]) -> DataError:
    """One error that lists all bad images."""
    lines = "".join(f"\n  {path}: {reason}" for path, reason in bad)
    return DataError(
        f"{len(bad)} image{'s' if len(bad) != 1 else ''} cannot be read:{lines}",
        expected="whole image files",
        next_step="mend or remove them; --skip-bad-images trains without those of the training set",
    )


@contextmanager
def suppress_pillow_warnings() -> Iterator[None]:
    """Keep Pillow's warnings (odd EXIF, palettes, big images) from the user; for all threads started within."""
    # Python's warning filters belong to the process, so threads must not set them one by one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_pixels(path: Path) -> np.ndarray:
    """As `decode`, for use in threads under one `suppress_pillow_warnings`."""
    _check_regular_file(path)
    try:
        return _open_pixels(path)
    except Exception as error:
        # Pillow's readers raise nearly anything on damaged files: OSError, SyntaxError, ValueError, TypeError,
        # OverflowError, struct.error, DecompressionBombError, …
        raise DataError(f"{path}: {failure_reason(error)}", expected="a whole image file") from error


def thread_count() -> int:
    return min(16, available_cores())


def _unreadable_reason(path: Path) -> str | None:
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
        raise DataError(f"{path}: an empty file", expected="an image file")


def failure_reason(error: Exception) -> str:
    """What a reader's exception means, in a few words."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than is safe to decode"
    if isinstance(error, PermissionError):
        return "no permission to read"
    words = " ".join(str(error).split()) or type(error).__name__
    return f"damaged ({words[:120]})"


def _open_pixels(path: Path) -> np.ndarray:
    from PIL import Image

    Image.init()
    with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as opened:
        return pil_to_array(opened)


def pil_to_array(opened: "Image.Image") -> np.ndarray:
    """Return the pixels of an opened picture, as `decode` does for its file, under `suppress_pillow_warnings`.

    Raises:
        Exception: of nearly any kind, where the rest of its file turns out to be damaged.
    """
    opened.load()
    image = _apply_exif_rotation(opened)
    if image.mode.startswith("I;16"):
        return _grey_to_rgb(_scale_16_bit(np.asarray(image)))
    if image.mode in {"I", "F"}:
        wide = opened.format == "PPM" and image.mode == "I"  # The reader has scaled it to 16 bits.
        values = np.asarray(image)
        return _grey_to_rgb(_scale_16_bit(values) if wide else _scale_by_range(values))
    if image.mode == "RGB" and not image.has_transparency_data:
        return np.array(image)
    return np.array(_composite_on_white(image) if image.has_transparency_data else image.convert("RGB"))


def _apply_exif_rotation(image: "Image.Image") -> "Image.Image":
    """The image turned as its EXIF says; as it is where EXIF is missing or damaged.

    Pillow's own `exif_transpose` also rewrites the EXIF block and fails on some that can be read.
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
    except Exception:  # Damaged EXIF raises anything; the pixels are sound.
        return image
    return image if turn is None else image.transpose(turn)


def _composite_on_white(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _grey_to_rgb(values: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (H, W, 3)."""
    return np.repeat(values[:, :, None], 3, axis=2)


def _scale_16_bit(values: np.ndarray) -> np.ndarray:
    """[0, 65535] -> [0, 255], rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _scale_by_range(values: np.ndarray) -> np.ndarray:
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
