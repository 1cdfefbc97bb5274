"""The image cache: resized images as raw bytes in one memory-mapped file, shared by all processes.

A file `<key>.u8` holds (N, S, S, 3) uint8. Its key is a hash of the N image files, the geometry and the decoder's
version, so that a file is never stale and never rewritten."""

import hashlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from soups.core.errors import DataError, EnvironmentFailure
from soups.core.progress import track
from soups.data.images.decode import (
    find_unreadable,
    read_pixels,
    suppress_pillow_warnings,
    thread_count,
    unreadable_error,
)
from soups.data.images.geometry import Geometry, resize_and_crop
from soups.files.atomic import atomic_write, compact_json, hold_lock, write_text
from soups.files.file_hashes import hash_files

logger = logging.getLogger(__name__)

FORMAT = 1  # Increase it when decoding or resizing gives other pixels.
_SPARE_BYTES = 64 * 2**20  # Disk space to leave free for other programs.

Item = TypeVar("Item")
Result = TypeVar("Result")


class Images:
    """N images of one size, read from a cache file or decoded on demand, with the same pixels.

    `images[i]` is (S, S, 3) uint8, RGB, possibly read-only. A pickle contains no pixels; a worker maps the file again.
    """

    def __init__(self, paths: Sequence[Path], geometry: Geometry, file: Path | None = None) -> None:
        """
        Args:
            paths: N image files; the cache file holds repeated paths once.
            geometry: resizing and cropping; S = `geometry.crop`.
            file: complete cache file of the distinct paths in order of first occurrence; None decodes on demand.
        """
        self.paths, self.geometry, self.file = list(paths), geometry, file
        slots = {path: slot for slot, path in enumerate(dict.fromkeys(self.paths))}
        self._slots = np.array([slots[path] for path in self.paths], dtype=np.int64)
        self._map: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        if self.file is None:
            return _read_image(self.geometry, self.paths[index])
        return self._pixels(self.file)[self._slots[index]]

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return a copy of the images at these indices, (B, S, S, 3) uint8."""
        if self.file is not None:
            return self._pixels(self.file)[self._slots[np.asarray(indices, dtype=np.int64)]]
        taken = np.empty((len(indices), self.geometry.crop, self.geometry.crop, 3), dtype=np.uint8)
        for position, index in enumerate(indices):
            taken[position] = self[int(index)]
        return taken

    def subset(self, rows: Sequence[int] | np.ndarray) -> "Images":
        """Return the images at these positions; they read the same cache file."""
        subset = Images([self.paths[int(row)] for row in rows], self.geometry, self.file)
        subset._slots = self._slots[np.asarray(rows, dtype=np.int64)]
        return subset

    @property
    def cached(self) -> bool:
        """Whether images are read without decoding."""
        return self.file is not None

    def _pixels(self, file: Path) -> np.ndarray:
        if self._map is None:
            # A plain array view, because each indexing of np.memmap costs microseconds.
            pixels = np.asarray(np.memmap(file, dtype=np.uint8, mode="r"))
            self._map = pixels.reshape(-1, self.geometry.crop, self.geometry.crop, 3)
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


def open_images(paths: Sequence[Path], geometry: Geometry, cache: str, folder: Path) -> Images:
    """Open images, from the cache file if the cache is on; builds the file if it does not exist.

    All images have been decoded once when this returns. If several processes open the same images, one builds the file.

    Args:
        paths: N image files, in the order of the result; may contain repeats.
        geometry: resizing and cropping of each.
        cache: `on`, `off`, or `auto`, which is `on` but continues without a cache, with a warning, if the file cannot
            be written.
        folder: folder of cache files.

    Raises:
        DataError: images cannot be read; lists all of them.
        EnvironmentFailure: with `on`, there is no space or no permission for the file.
    """
    distinct = list(dict.fromkeys(paths))
    if not distinct:
        return Images(paths, geometry)
    key = _cache_key(distinct, geometry, folder)
    if cache != "off":
        file = folder / f"{key}.u8"
        try:
            _build_once(distinct, geometry, file)
            return Images(paths, geometry, file)
        except EnvironmentFailure as error:
            if cache == "on":
                raise
            logger.warning("no image cache, so that each epoch decodes all images again: %s", error.problem)
    _check_once(distinct, folder / f"{key}.checked")
    return Images(paths, geometry)


def _cache_key(paths: Sequence[Path], geometry: Geometry, folder: Path) -> str:
    import PIL

    # `cut=None` is omitted, so that keys of older caches remain valid.
    fields = {name: value for name, value in asdict(geometry).items() if value is not None}
    identity = {"format": FORMAT, "pillow": PIL.__version__, "geometry": fields}
    digest = hashlib.sha256(compact_json(identity).encode())
    for sha256 in hash_files(paths, folder):
        digest.update(sha256.encode())
    return digest.hexdigest()[:32]


def _build_once(paths: Sequence[Path], geometry: Geometry, file: Path) -> None:
    """Build `file` if it does not exist or is incomplete, under a lock that other processes wait for."""
    size = len(paths) * geometry.crop**2 * 3
    if _is_complete(file, size):
        return
    with hold_lock(file.parent, file.name):
        if _is_complete(file, size):  # Another process built it while this one waited for the lock.
            return
        for temporary in file.parent.glob(f".{file.name}.*.tmp"):  # Left behind by a killed build.
            temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(file.parent).free
        if free < size + _SPARE_BYTES:
            raise EnvironmentFailure(
                f"{file.parent}: not enough disk space for the image cache",
                expected=f"{(size + _SPARE_BYTES) / 2**20:,.0f} MiB free",
                found=f"{free / 2**20:,.0f} MiB",
                next_step="free disk space, or set a smaller --cache-size or --cache off",
            )
        _build(paths, geometry, file)


def _is_complete(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _build(paths: Sequence[Path], geometry: Geometry, file: Path) -> None:
    bad: list[tuple[Path, str]] = []
    with suppress_pillow_warnings(), atomic_write(file) as temporary, temporary.open("wb", buffering=2**20) as stream:
        prepared = map_in_threads(partial(try_image, geometry), paths)
        for path, pixels in zip(paths, track(prepared, "preparing images", total=len(paths)), strict=True):
            if isinstance(pixels, DataError):
                bad.append((path, pixels.problem.removeprefix(f"{path}: ")))
            elif not bad:
                stream.write(pixels.tobytes())
        if bad:
            raise unreadable_error(bad)


def _read_image(geometry: Geometry, path: Path) -> np.ndarray:
    with suppress_pillow_warnings():
        return resize_and_crop(read_pixels(path), geometry)


def try_image(geometry: Geometry, path: Path) -> np.ndarray | DataError:
    """Return the pixels of an image, (S, S, 3) uint8, or the error. Call it within `suppress_pillow_warnings`."""
    try:
        return resize_and_crop(read_pixels(path), geometry)
    except DataError as error:
        return error


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield results in the order of the items; at most 8 per thread are computed ahead, to bound memory."""
    threads = thread_count()
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 8 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_once(paths: Sequence[Path], marker: Path) -> None:
    """Decode each image once and raise an error that lists all bad ones; a marker file records success."""
    if marker.exists():
        return
    if bad := find_unreadable(paths):
        raise unreadable_error(bad)
    try:
        write_text(marker, f"{len(paths)} images of this content can be read.{os.linesep}")
    except EnvironmentFailure:
        logger.debug("%s: cannot be written; the next run checks the images again", marker)
