"""SHA-256 of files, cached by size and times of the file, so that unchanged files are hashed once."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from soups.core.errors import DataError, EnvironmentFailure
from soups.core.processors import available_cores
from soups.files.atomic import compact_json, sha256_of, write_text

logger = logging.getLogger(__name__)

Entry = list[int | str]
"""Size in bytes, mtime and ctime (ns since 1970), SHA-256."""

_UNREADABLE = "absent"
"""Replaces the hash of a file that cannot be read; it is part of existing cache keys."""


def hash_files(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return the SHA-256 of each file, in hexadecimal, in the order given.

    The hashes of the files of one folder are cached in one file in `folder`. If it cannot be written, the files are
    hashed again next time. A missing or unreadable file or a pipe gets `absent` as its hash: decoding reports the
    error.
    """
    names = [os.path.abspath(path) for path in paths]  # noqa: PTH100 -- fast for many paths, and keeps symbolic links.
    cache_file = _cache_file(names, folder)
    entries = _read_cache(cache_file)
    stamps = {name: _file_stamp(name) for name in names}
    stale = [name for name, stamp in stamps.items() if stamp is not None and entries.get(name, [])[:3] != stamp]
    if stale:
        with ThreadPoolExecutor(min(16, available_cores())) as pool:
            for name, sha256 in zip(stale, pool.map(_hash_file, stale), strict=True):
                entries[name] = [*(stamps[name] or []), sha256]
        _write_cache(cache_file, entries)
    return [str(entries[name][3]) if stamps[name] is not None else _UNREADABLE for name in names]


def remember_hash(path: Path, sha256: str, folder: Path) -> None:
    """Cache the SHA-256 of a file that was just written and hashed, so that `hash_files` does not read it again."""
    name = os.path.abspath(path)  # noqa: PTH100 -- as above.
    cache_file = _cache_file([name], folder)
    if (stamp := _file_stamp(name)) is not None:
        _write_cache(cache_file, _read_cache(cache_file) | {name: [*stamp, sha256]})


def _cache_file(names: Sequence[str], folder: Path) -> Path:
    """Return the path of the cache for the common folder of these files."""
    common = os.path.commonpath({os.path.dirname(name) for name in names}) if names else ""  # noqa: PTH120
    return folder / f"hashes-{hashlib.sha256(common.encode()).hexdigest()[:16]}.json"


def _file_stamp(name: str) -> Entry | None:
    """Return size, mtime and ctime, which change with the content; None if it is not a regular file."""
    with suppress(OSError):
        status = os.stat(name)  # noqa: PTH116 -- called for every image.
        if stat.S_ISREG(status.st_mode):
            # A program can set mtime back, but not ctime.
            return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return None


def _hash_file(name: str) -> str:
    try:
        return sha256_of(Path(name))
    except OSError:  # Correcting the permissions changes ctime, so the entry becomes stale.
        return _UNREADABLE


def _read_cache(path: Path) -> dict[str, Entry]:
    with suppress(OSError, ValueError, AttributeError):
        entries = json.loads(path.read_bytes())
        if all(isinstance(entry, list) and len(entry) == 4 for entry in entries.values()):
            return entries
    return {}


def _write_cache(path: Path, entries: dict[str, Entry]) -> None:
    try:
        write_text(path, compact_json(entries))
    except EnvironmentFailure:
        logger.debug("%s: cannot be written; the files are hashed again next time", path)


def check_hash(path: Path, expected: str, found: str) -> None:
    """Raise an error if a file's SHA-256 differs from the recorded one.

    Raises:
        DataError: the file has changed.
    """
    if found != expected:
        raise DataError(
            f"{path}: changed since it was logged",
            expected=f"SHA-256 {expected}",
            found=found,
            next_step="restore the file, or remove it and make it again",
        )
