"""Content hashes of files, remembered by size and times, so that unchanged files are hashed once."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from soups.core.errors import DataError, EnvironmentFailure
from soups.core.processors import available_cores
from soups.files.atomic import compact_json, sha256_of, write_text

logger = logging.getLogger(__name__)

# Size, time of the last change of the content, of the entry itself (both ns since 1970), SHA-256.
Entry = list[int | str]

_ABSENT = "absent"


def hash_files(paths: Sequence[Path], folder: Path) -> list[str]:
    """The SHA-256 of each file, in hexadecimal, in the order given.

    What is known of a folder's files is kept in one file in `folder`; where that cannot be written, files are hashed
    anew. A file that is missing, a pipe or unreadable gets a stand-in: decoding says what is wrong with it.
    """
    names = [os.path.abspath(path) for path in paths]  # noqa: PTH100 -- many paths, and links stay as they are.
    memory = _memory(names, folder)
    known = _read(memory)
    stamps = {name: _stamp(name) for name in names}
    stale = [name for name, stamp in stamps.items() if stamp is not None and known.get(name, [])[:3] != stamp]
    if stale:
        with ThreadPoolExecutor(min(16, available_cores())) as pool:
            for name, sha256 in zip(stale, pool.map(_hash, stale), strict=True):
                known[name] = [*(stamps[name] or []), sha256]
        _write(memory, known)
    return [str(known[name][3]) if stamps[name] is not None else _ABSENT for name in names]


def remember_hash(path: Path, sha256: str, folder: Path) -> None:
    """Keep the SHA-256 of a file that was just written and hashed, so that `hash_files` need not read it again."""
    name = os.path.abspath(path)  # noqa: PTH100 -- as above.
    memory = _memory([name], folder)
    if (stamp := _stamp(name)) is not None:
        _write(memory, _read(memory) | {name: [*stamp, sha256]})


def _memory(names: Sequence[str], folder: Path) -> Path:
    """The file in which is kept what is known of files of one folder."""
    place = os.path.commonpath({os.path.dirname(name) for name in names}) if names else ""  # noqa: PTH120
    return folder / f"hashes-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"


def _stamp(name: str) -> Entry | None:
    """What changes when the file does; None where there is no regular file."""
    try:
        status = os.stat(name)  # noqa: PTH116 -- called for every image.
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # A program can set the first time back, and the second only follows.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _hash(name: str) -> str:
    try:
        return sha256_of(Path(name))
    except OSError:  # A change of permissions changes the entry's time, so this is not remembered for good.
        return _ABSENT


def _read(memory: Path) -> dict[str, Entry]:
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    sound = isinstance(known, dict) and all(isinstance(entry, list) and len(entry) == 4 for entry in known.values())
    return known if sound else {}


def _write(memory: Path, known: dict[str, Entry]) -> None:
    try:
        write_text(memory, compact_json(known))
    except EnvironmentFailure:
        logger.debug("%s: cannot be written; the images are hashed again next time", memory)


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
