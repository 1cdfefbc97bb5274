"""Folders that appear whole or not at all, made by one process at a time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from soups.records import explained_write


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, a file beside it, so that two processes do not make it at once.

    Raises:
        EnvironmentFailure: the parent folder cannot be made or written.
    """
    from filelock import FileLock

    with explained_write(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; when the block ends well, it becomes `folder` at once.

    An existing `folder` is replaced, and only after the new one is complete. If the block raises, nothing
    of the new one is left. Call it under `alone(folder)`: whatever an earlier, killed process left is removed.

    Raises:
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    making, old = (folder.with_name(f".{folder.name}.{word}") for word in ("making", "old"))
    with explained_write(folder):
        for stray in (making, old):
            shutil.rmtree(stray, ignore_errors=True)
        making.mkdir()
        try:
            yield making
            if folder.exists():
                folder.rename(old)
            making.rename(folder)
        finally:
            for stray in (making, old):
                shutil.rmtree(stray, ignore_errors=True)
