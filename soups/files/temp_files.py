"""Temporary files: whose they are is in their names, so that those of killed processes can be told and removed."""

import hashlib
import os
import platform
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

SUFFIX = ".tmp"
_PATTERN = re.compile(r"^\..+\.(\d+)-([0-9a-f]{8})\.[^.]+\.tmp$")
_OLD = 24 * 3600.0
"""Seconds after which a temporary file of another machine, or of another start of this one, is a stray."""


def temporary_prefix(name: str) -> str:
    """What the name of a temporary file begins with that this process makes for a file called `name`."""
    return f".{name}.{os.getpid()}-{_place()}."


@cache
def _place() -> str:
    """Stands for where process numbers mean the same: this machine since it was started, this container."""
    told = [platform.node()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def remove_leftover_files(folders: Iterable[Path], *alone: Path) -> int:
    """Remove temporary files in these folders and below, and in those `alone`, that nobody writes any more; how many.

    These are files of our own pattern alone, whose process has ended; of other machines, those of yesterday and before.
    Folders that may not be read or written are left as they are.
    """
    removed = 0
    pattern = f".*{SUFFIX}"
    for path in chain(*(folder.rglob(pattern) for folder in folders), *(folder.glob(pattern) for folder in alone)):
        try:
            if _is_stray(path):
                path.unlink()
                removed += 1
        except OSError:
            continue
    return removed


def _is_stray(path: Path) -> bool:
    match = _PATTERN.match(path.name)
    if match is None or not path.is_file():
        return False
    if match[2] == _place() and os.name != "nt":
        return not _is_alive(int(match[1]))
    return time.time() - path.stat().st_mtime > _OLD


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
