"""Finds the files of a soup's ingredients by hash, wherever they were moved or renamed to."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.checkpoints.card import IngredientCard, read_card
from soups.checkpoints.checkpoint import SUFFIX, read_state
from soups.checkpoints.compatibility import strip_prefix
from soups.core.errors import DataError
from soups.files.file_hashes import hash_files
from soups.pipeline.run.foreign_pool import ENDINGS
from soups.pipeline.run.model_files import is_mapped, read_model
from soups.pipeline.run.run import Run
from soups.pipeline.settings.commands import CommandSettings
from soups.recipes.shared.pool import Ingredient
from soups.runtime.devices import cache_dir


@dataclass
class IngredientIndex:
    """Folders that are searched for ingredients: --model-location, the soup's, its run's, and those of all runs."""

    soup: Path
    run: Run | None
    """Run of the soup, if it has one."""
    settings: CommandSettings
    _known: dict[Path, dict[str, Path]] = field(default_factory=dict)

    def ingredients(self, parts: Sequence[IngredientCard]) -> tuple[Ingredient, ...]:
        """Return all ingredients of a soup, in the order of its card.

        Raises:
            DataError: one is missing or has changed; the message counts the others.
        """
        paths, problems = [], []
        for part in parts:
            try:
                paths.append(self._find(part.sha256, part.name))
            except DataError as error:
                problems.append(error)
        if problems:
            first, others = problems[0], len(problems) - 1
            more = f" (and {others} more of its {len(parts)} ingredients)" if others else ""
            raise DataError(first.problem + more, expected=first.expected, found=first.found, next_step=first.next_step)
        return tuple(self._ingredient(part.name, part.sha256, path) for part, path in zip(parts, paths, strict=True))

    def start(self, sha256: str, named: str | None) -> Ingredient:
        """Return the start of a soup.

        Args:
            sha256: the hash in the soup's card; empty where the card has none.
            named: the file that the user named.

        Raises:
            DataError: the file is missing, or the named file has another hash.
        """
        if named is None:
            path = self._find(sha256, None)
        elif not (path := Path(named)).is_file():
            raise DataError(f"--start {path}: no such file", expected="the start of the soup's ingredients")
        digest = _hashes([path])[0]
        if sha256 and digest != sha256:
            problem = f"--start {path}: not the start that {self.soup} was made with"
            raise DataError(problem, expected=f"SHA-256 {sha256}", found=digest)
        return self._ingredient(path.stem, digest, path)

    def _ingredient(self, name: str, sha256: str, path: Path) -> Ingredient:
        return Ingredient(name, sha256, math.nan, math.nan, lambda: self._read(path), is_mapped(self.run, path))

    def _read(self, path: Path) -> Any:
        if path.suffix == SUFFIX and read_card(path) is not None:
            return strip_prefix(read_state(path))[0]
        if self.run is None:
            raise DataError(
                f"{path}: has no card that says what it is",
                expected="the run that takes it for a model of its own",
                next_step="add --name RUN",
            )
        return read_model(self.run, path)

    def _find(self, sha256: str, name: str | None) -> Path:
        """Return the file with this hash: one with the name of the ingredient (None: of a start), else any other.

        Raises:
            DataError: there is none; the message names a file that has the ingredient's name.
        """
        folders, changed = self._folders(), ""
        for folder in folders:
            named = (
                sorted(folder.glob(f"*_start{SUFFIX}")) if name is None else [folder / f"{name}{e}" for e in ENDINGS]
            )
            files = [file for file in named if file.is_file()]
            for file, digest in zip(files, _hashes(files), strict=True):
                if digest == sha256:
                    return file
                if name is not None:
                    changed = changed or f"{file} with {digest}"
        for folder in folders:
            if sha256 in (known := self._hash_folder(folder)):
                return known[sha256]
        what = "its start" if name is None else f"ingredient {name}"
        raise DataError(
            f"{self.soup}: {what} {'has changed' if changed else 'is missing'}",
            expected=f"a file with SHA-256 {sha256}" if sha256 else "its file",
            found=changed or f"none in {', '.join(map(str, folders))}",
            next_step="restore the file, or give its folder with --model-location DIR"
            + (", or the file with --start FILE" if name is None else ""),
        )

    def _folders(self) -> list[Path]:
        run, settings = self.run, self.settings.run
        places = [Path(settings.model_location)] if settings.model_location else []
        places += [self.soup.parent]
        if run is not None:
            places += [run.models]
            places += [Path(run.recorded.foreign.foreign_location)] if run.recorded.foreign else []
        places += sorted(Path(settings.runs_folder).glob("*/models"))
        return list(dict.fromkeys(place for place in places if place.is_dir()))

    def _hash_folder(self, folder: Path) -> dict[str, Path]:
        """Return hash → checkpoint for a folder."""
        if folder not in self._known:
            paths = [path for path in folder.iterdir() if path.name.endswith(ENDINGS) and path.name[0] != "."]
            files = sorted(path for path in paths if path.is_file())
            self._known[folder] = dict(zip(_hashes(files), files, strict=True))
        return self._known[folder]


def _hashes(paths: Iterable[Path]) -> list[str]:
    return hash_files(list(paths), cache_dir() / "hashes")
