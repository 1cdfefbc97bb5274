"""Folders that appear whole or not at all, made by one process at a time, and never in place of somebody's own."""

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
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, a file beside it, so that two processes do not make it at once.

    Raises:
        EnvironmentFailure: the parent folder cannot be made or written.
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
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; when the block ends well, it becomes `folder` at once.

    An existing `folder` is replaced, and only after the new one is complete. If the block raises, nothing
    of the new one is left. Call it under `alone(folder)`: whatever an earlier, killed process left is removed.

    Raises:
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    making, old = (folder.with_name(f".{folder.name}.{word}") for word in ("making", "old"))
    with explain_write_errors(folder):
        for stray in (making, old):
            shutil.rmtree(stray, ignore_errors=True)
        making.mkdir()
        try:
            yield making
            if folder.exists():
                folder.rename(old)
            making.rename(folder)
            sync_folder(folder.parent)
        finally:
            for stray in (making, old):
                shutil.rmtree(stray, ignore_errors=True)


@dataclass(frozen=True)
class DataSet:
    """A data set that the demo makes: how its folder is known, so that nothing else is ever replaced.

    Attributes:
        marker: file in the folder that says what it was made from; written last.
        identity: what decides the bytes, as JSON values.
        images: glob of the images' names.
        names: what the path of every file but the marker looks like, in the folder, with `/`.
        example: such files in words.
        tables: files that have to be there beside the images.
    """

    marker: str
    identity: dict[str, Any]
    images: str
    names: re.Pattern[str]
    example: str
    tables: tuple[str, ...] = ()

    def make(self, folder: Path, write: Callable[[Path], int]) -> Path:
        """Fill the folder by `write`, which returns how many images it wrote, unless it is there already.

        Returns:
            The folder.

        Raises:
            DataError: the folder exists and holds anything that was not made here.
            EnvironmentFailure: the disk is full, or the folder may not be written.
        """
        if self._is_complete(folder):
            return folder
        with alone(folder):
            if self._is_complete(folder):  # Another process made it while this one waited.
                return folder
            self._refuse_foreign(folder)
            with whole_folder(folder) as making:
                count = write(making)
                told = {"fingerprint": fingerprint(self.identity), "images": count}
                write_json(making / self.marker, told | self.identity)
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
        """Only what was made here may be replaced: a marker, and files under the names that are given here."""
        if folder.is_dir() and not any(folder.iterdir()):
            return
        hint = "move it away, or choose another --location"
        if folder.exists() and not (folder / self.marker).is_file():
            expected = f"a new folder, or one with the marker {self.marker}"
            raise DataError(f"{folder}: exists and was not made by the demo", expected=expected, next_step=hint)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_dir() and name != self.marker and not self.names.fullmatch(name):
                problem = f"{folder}: has to be made again, but holds a file that the demo did not make"
                expected = f"{self.marker} and {self.example}"
                raise DataError(problem, expected=expected, found=str(path), next_step=hint)
