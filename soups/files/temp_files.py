"""Temporary files whose names identify their process, so that those of killed processes can be removed."""

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

SUFFIX = ".tmp"
_PATTERN = re.compile(r"^\..+\.(\d+)-([0-9a-f]{8})\.[^.]+\.tmp$")
_MAXIMUM_AGE = 24 * 3600.0
"""Seconds after which a temporary file of another machine, or of an earlier boot of this one, is a leftover."""


def create_temporary_file(path: Path) -> Path:
    """Create an empty file next to `path` whose name has this process's number; return its path.

    The kernel applies the umask to its mode. Reading the umask in Python means to set it for a moment, which would give
    files that other threads create in that moment the wrong mode.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{_process_space()}.{secrets.token_hex(4)}{SUFFIX}")
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return temporary


@cache
def _process_space() -> str:
    """Return eight digits that identify where process numbers are unique: this boot of this machine or container."""
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def remove_leftover_files(folders: Iterable[Path], *single_folders: Path) -> int:
    """Remove the temporary files of ended processes; return their number.

    A file is removed if its name has our pattern and its process has ended, or if it is from another machine and older
    than a day. Folders without permission are skipped.

    Args:
        folders: folders to search with all their subfolders.
        single_folders: folders to search without their subfolders.
    """
    removed = 0
    pattern = f".*{SUFFIX}"
    paths = (*(folder.rglob(pattern) for folder in folders), *(folder.glob(pattern) for folder in single_folders))
    for path in chain(*paths):
        with suppress(OSError):
            if _is_leftover(path):
                path.unlink()
                removed += 1
    return removed


def _is_leftover(path: Path) -> bool:
    match = _PATTERN.match(path.name)
    if match is None or not path.is_file():
        return False
    if match[2] == _process_space() and os.name != "nt":
        return not _is_alive(int(match[1]))
    return time.time() - path.stat().st_mtime > _MAXIMUM_AGE


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
