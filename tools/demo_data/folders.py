"""Folders that appear complete or not at all, are made by one process at a time and never replace foreign files."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soups.core.errors import DataError
from soups.files.atomic import explain_write_errors, fingerprint, sync_folder, write_json


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` (a file beside it), so that only one process makes it.

    Raises:
        EnvironmentFailure: The parent folder cannot be created or written.
    """
    from filelock import FileLock

    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`, which replaces `folder` when the block succeeds.

    An existing `folder` is replaced only after the new one is complete. If the block raises, the new folder is removed.
    Call this within `exclusive(folder)`: leftovers of killed processes are removed.

    Raises:
        EnvironmentFailure: The disk is full or the folder is not writable.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{word}") for word in ("making", "old"))
    with explain_write_errors(folder):
        for stray in (temporary, old):
            shutil.rmtree(stray, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
            sync_folder(folder.parent)
        finally:
            for stray in (temporary, old):
                shutil.rmtree(stray, ignore_errors=True)


@dataclass(frozen=True)
class DataSet:
    """A data set of the demo, with what identifies its folder, so that foreign files are never replaced.

    Attributes:
        marker: file in the folder with the identity; written last.
        identity: the settings that determine the bytes, as JSON values.
        images: glob pattern of the images' names.
        names: regular expression of the paths in the folder (with `/`) of all files but the marker.
        example: description of such files.
        tables: files that must exist beside the images.
    """

    marker: str
    identity: dict[str, Any]
    images: str
    names: re.Pattern[str]
    example: str
    tables: tuple[str, ...] = ()

    def make(self, folder: Path, write: Callable[[Path], int]) -> Path:
        """Make the folder with `write`, which returns the number of images, unless the folder exists.

        Returns:
            The folder.

        Raises:
            DataError: The folder exists and contains files that were not made here.
            EnvironmentFailure: The disk is full, or the folder is not writable.
        """
        if self._is_complete(folder):
            return folder
        with exclusive(folder):
            if self._is_complete(folder):  # Another process made it during the wait.
                return folder
            self._refuse_foreign(folder)
            with atomic_folder(folder) as temporary:
                count = write(temporary)
                summary = {"fingerprint": fingerprint(self.identity), "images": count}
                write_json(temporary / self.marker, summary | self.identity)
        return folder

    def _is_complete(self, folder: Path) -> bool:
        try:
            marker = json.loads((folder / self.marker).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(marker, dict) or marker.get("fingerprint") != fingerprint(self.identity):
            return False
        tables = all((folder / name).is_file() for name in self.tables)
        return tables and sum(1 for _ in folder.rglob(self.images)) == marker.get("images")

    def _refuse_foreign(self, folder: Path) -> None:
        """Check that the folder has only files made here: the marker, and files whose names match.

        Raises:
            DataError: There are other files.
        """
        if folder.is_dir() and not any(folder.iterdir()):
            return
        hint = "move it away, or choose another --location"
        if folder.exists() and not (folder / self.marker).is_file():
            expected = f"a new folder, or one with the marker {self.marker}"
            raise DataError(f"{folder}: exists and was not made by the demo", expected=expected, next_step=hint)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_dir() and name != self.marker and not self.names.fullmatch(name):
                problem = f"{folder}: must be made again, but contains a file that the demo did not make"
                expected = f"{self.marker} and {self.example}"
                raise DataError(problem, expected=expected, found=str(path), next_step=hint)
