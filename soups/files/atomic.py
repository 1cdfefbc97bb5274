"""Atomic, synced writes of files (text, JSON, arrays, CSV), locks, and SHA-256; JSONL logs are in `jsonl`."""

import errno
import filecmp
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import AlreadyInProgress, EnvironmentFailure
from soups.files.formulas import find_formulas, report_formulas
from soups.files.temp_files import create_temporary_file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

logger = logging.getLogger(__name__)

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_SECONDS_BEFORE_NOTICE = 1.0
"""Time to wait for a lock before the wait is logged."""


def explain_os_error(error: OSError, path: Path | None = None) -> EnvironmentFailure | None:
    """Return the error (exit code 4) for a failed write of `path`; None if `error` has another cause.

    If `path` is None, the message names the file of the error.
    """
    place = path or error.filename or "a file"
    if error.errno in _DISK_FULL:
        next_step = "free some space and run the same command again"
        return EnvironmentFailure(f"{place}: disk full while writing", next_step=next_step)
    if error.errno in _FORBIDDEN:
        next_step = "choose another folder or change its permissions"
        return EnvironmentFailure(f"{place}: no permission to write", next_step=next_step)
    if error.errno == errno.ENAMETOOLONG:
        return EnvironmentFailure(f"{place}: the name is too long for this disk", next_step="choose a shorter name")
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        problem = f"{place}: cannot be written, {str(error.strerror).lower()}"
        return EnvironmentFailure(problem, next_step="move that file or folder away")
    return None


@contextmanager
def explain_write_errors(path: Path | None = None) -> Iterator[None]:
    """Convert the operating system's errors while `path` is written into an `EnvironmentFailure`.

    If `path` is None, the message names the file of the error.
    """
    try:
        yield
    except OSError as error:
        explained = explain_os_error(error, path)
        if explained is None:
            raise
        raise explained from error


@contextmanager
def hold_lock(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock `name` of a folder in the block; the kernel releases the lock if its process ends.

    Args:
        folder: the folder of the locked work.
        name: name of the lock.
        wait: wait for another process that holds the lock, and log this after a second.

    Raises:
        EnvironmentFailure: the folder cannot be written.
        AlreadyInProgress: another process holds the lock, and `wait` is False.
    """
    from filelock import FileLock, Timeout

    locks = folder / ".locks"
    with explain_write_errors(folder):
        make_folder(locks)
        lock = FileLock(locks / name)
        try:
            lock.acquire(timeout=_SECONDS_BEFORE_NOTICE if wait else 0)
        except Timeout:
            if not wait:
                raise AlreadyInProgress(f"{folder / name}: another process is working on it") from None
            logger.info("%s: another process is working on it; waiting until it has finished", folder / name)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, so that created and renamed files survive a power failure."""
    if os.name != "nt":  # Windows cannot open a folder.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, and sync them, so that they survive a power failure."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


@contextmanager
def atomic_write(path: Path, keep_equal: bool = False) -> Iterator[Path]:
    """Yield a temporary path; after the block, sync the file and rename it to `path` atomically.

    If the block raises, the temporary file is removed and an existing `path` is not changed.

    Args:
        path: the file to write; its mode follows the umask.
        keep_equal: do not replace a file that has the same bytes.

    Raises:
        EnvironmentFailure: the disk is full or the folder cannot be written.
    """
    with explain_write_errors(path):
        make_folder(path.parent)
        temporary = create_temporary_file(path)
        try:
            yield temporary
            if not (keep_equal and path.is_file() and filecmp.cmp(temporary, path, shallow=False)):
                replace_atomically(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_atomically(temporary: Path, path: Path) -> None:
    """Sync a finished file and rename it to `path`, in the same folder, atomically; its mode is not changed."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; a file with the same bytes is not replaced."""
    content = text.encode()
    with suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_array(path: Path, array: "np.ndarray") -> None:
    """Write one array of numbers as `.npy` atomically.

    `numpy.save` is not used: given a file, it writes around its stream and misses the error of a disk that becomes full
    with the last bytes, so a truncated file would replace `path`.
    """
    import numpy as np

    array = np.asarray(array, order="C")
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data.cast("B") if array.size else b"")


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV without its index, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    report_formulas(path, find_formulas(table))


def compact_json(value: Any) -> str:
    """Return JSON with sorted keys and without spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(compact_json(value).encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
