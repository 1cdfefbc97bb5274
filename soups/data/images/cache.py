"""Decode once: images at one size as bytes in one file, mapped by every process that trains or evaluates.

The file `<key>.u8` holds (N, S, S, 3) uint8 and nothing else. Its key stands for the bytes of the N image files, the
geometry and the version of the decoder, so it is never rewritten and never stale: other content is another file.
"""

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
from soups.core.processors import available_cores
from soups.core.progress import track
from soups.data.images.decode import find_unreadable, read_pixels, suppress_pillow_warnings, unreadable_error
from soups.data.images.geometry import Geometry, resize_and_crop
from soups.files.atomic import atomic_write, compact_json, explain_write_errors, write_text
from soups.files.file_hashes import hash_files

logger = logging.getLogger(__name__)

FORMAT = 1  # Raise it when decoding or resizing gives other pixels.
_SPARE_BYTES = 64 * 2**20  # Left free on the disk for everybody else.

Item = TypeVar("Item")
Result = TypeVar("Result")


class Images:
    """N images of one size, from the cache or decoded on demand: the same pixels either way.

    `images[i]` is (S, S, 3) uint8, RGB, maybe read-only. Pickles as paths alone; a worker maps the file again.
    """

    def __init__(self, paths: Sequence[Path], geometry: Geometry, file: Path | None = None) -> None:
        """
        Args:
            paths: the N image files; doubled ones are kept once in the cache.
            geometry: gives S = `geometry.crop`.
            file: a complete cache file of the distinct paths in their order of first occurrence; None decodes anew.
        """
        self.paths, self.geometry, self.file = list(paths), geometry, file
        slots = {path: slot for slot, path in enumerate(dict.fromkeys(self.paths))}
        self._slots = np.array([slots[path] for path in self.paths], dtype=np.int64)
        self._distinct = len(slots)
        self._map: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        if self.file is None:
            return _read_image(self.geometry, self.paths[index])
        return self._pixels(self.file)[self._slots[index]]

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Several images at once: (B, S, S, 3) uint8, their own memory."""
        side = self.geometry.crop
        if self.file is not None:
            return self._pixels(self.file)[self._slots[np.asarray(indices, dtype=np.int64)]]
        taken = np.empty((len(indices), side, side, 3), dtype=np.uint8)
        for place, index in enumerate(indices):
            taken[place] = self[int(index)]
        return taken

    def subset(self, rows: Sequence[int] | np.ndarray) -> "Images":
        """The images at these positions, read from the same file."""
        subset = Images([self.paths[int(row)] for row in rows], self.geometry, self.file)
        subset._slots, subset._distinct = self._slots[np.asarray(rows, dtype=np.int64)], self._distinct
        return subset

    @property
    def cached(self) -> bool:
        """Whether reading an image costs no decoding."""
        return self.file is not None

    def _pixels(self, file: Path) -> np.ndarray:
        if self._map is None:
            side = self.geometry.crop
            shape = (self._distinct, side, side, 3)
            # A plain view of the map: each indexing of a np.memmap itself costs microseconds.
            self._map = np.asarray(np.memmap(file, dtype=np.uint8, mode="r", shape=shape))
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


def open_images(paths: Sequence[Path], geometry: Geometry, cache: str, folder: Path) -> Images:
    """Images ready to be read: from the cache, which is built where it is missing.

    All images are known to be readable when this returns. Processes that open the same images at once build once.

    Args:
        paths: the N image files, in the order of the result; may be doubled.
        geometry: what is done to each.
        cache: `on`, `off`, or `auto`: as `on`, but does without, with a notice, where the file cannot be kept.
        folder: where caches are kept.

    Raises:
        DataError: images that cannot be read; lists all of them.
        EnvironmentFailure: with `on`, no space or no permission to keep the file.
    """
    distinct = list(dict.fromkeys(paths))
    if not distinct:
        return Images(paths, geometry)
    key = _cache_key(distinct, geometry, folder)
    if cache == "off":
        _check_once(distinct, folder / f"{key}.checked")
        return Images(paths, geometry)
    file = folder / f"{key}.u8"
    try:
        _build_once(distinct, geometry, file)
    except EnvironmentFailure as error:
        if cache == "on":
            raise
        logger.warning("without the image cache, so each epoch decodes anew: %s", error.problem)
        _check_once(distinct, folder / f"{key}.checked")
        return Images(paths, geometry)
    return Images(paths, geometry, file)


def _cache_key(paths: Sequence[Path], geometry: Geometry, folder: Path) -> str:
    import PIL

    identity = {"format": FORMAT, "pillow": PIL.__version__, "geometry": _key_fields(geometry)}
    digest = hashlib.sha256(compact_json(identity).encode())
    for sha256 in hash_files(paths, folder):
        digest.update(sha256.encode())
    return digest.hexdigest()[:32]


def _key_fields(geometry: Geometry) -> dict[str, Any]:
    """What decides the pixels; a cut that there is not stays unsaid, as before there were cuts."""
    return {name: value for name, value in asdict(geometry).items() if value is not None}


def _build_once(paths: Sequence[Path], geometry: Geometry, file: Path) -> None:
    """Make sure that `file` is there, complete."""
    from filelock import FileLock

    size = len(paths) * geometry.crop**2 * 3
    if _is_complete(file, size):
        return
    with explain_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_name(f".{file.name}.lock"))
        lock.acquire()
    try:
        if _is_complete(file, size):  # Another process built it while this one waited.
            return
        for stray in file.parent.glob(f".{file.name}.*.tmp"):  # Left by a build that was killed.
            stray.unlink(missing_ok=True)
        _check_disk_space(file, size)
        _build(paths, geometry, file)
    finally:
        lock.release()


def _is_complete(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _check_disk_space(file: Path, size: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if free < size + _SPARE_BYTES:
        raise EnvironmentFailure(
            f"{file.parent}: no room for the image cache",
            expected=f"{(size + _SPARE_BYTES) / 2**20:,.0f} MiB free",
            found=f"{free / 2**20:,.0f} MiB",
            next_step="free some space, choose a smaller --cache-size, or give --cache off",
        )


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
    """Return the pixels of an image, (S, S, 3) uint8, or the error; call it under `suppress_pillow_warnings`."""
    try:
        return resize_and_crop(read_pixels(path), geometry)
    except DataError as error:
        return error


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in the order of the items, computed a little ahead, so that memory does not grow with their number."""
    threads = min(16, available_cores())
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 8 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _check_once(paths: Sequence[Path], marker: Path) -> None:
    """Decode each image once, to list all bad ones before the work starts; remembered by a marker file."""
    if marker.exists():
        return
    if bad := find_unreadable(paths):
        raise unreadable_error(bad)
    try:
        write_text(marker, f"{len(paths)} images of this content can be read.{os.linesep}")
    except EnvironmentFailure:
        logger.debug("%s: cannot be written; the images are checked again next time", marker)
