"""Files of answers: named after the images they are for; answers for other images are never overwritten."""

import logging
import os
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from soups.core.errors import UsageError
from soups.files.atomic import fingerprint
from soups.files.jsonl import append_record, read_records
from soups.files.tables import canonical_id, is_table, read_table
from soups.pipeline.settings.commands import InferenceSettings

logger = logging.getLogger(__name__)

LOG = "answers.jsonl"
"""Log of the run: for each file of answers, which images it was written for."""


class AnswerFiles:
    """Chooses and records the files that a command writes its answers to.

    Args:
        settings: settings of `inference.py`.
        run_folder: the run's folder; None without a run.
        images: names that tell the predicted images from others, in an order that does not depend on the table; None:
            only their ids are known.
        ids: ids of the images as the table has them.
    """

    def __init__(
        self, settings: InferenceSettings, run_folder: Path | None, images: Iterable[str] | None, ids: Sequence[str]
    ):
        self._settings, self._run_folder = settings, run_folder
        self._ids = set(map(_stem, ids))
        self._images = None if images is None else fingerprint(list(images))
        self._log = run_folder / "logs" / LOG if run_folder is not None and images is not None else None

    def path(self, stem: str) -> Path:
        """Return the file for an answer: `--output`, or `<stem>.csv` in the output folder, numbered if it is taken.

        Raises:
            UsageError: there is neither an output folder nor `--output`, or `--output` holds answers for other images.
        """
        first = output_path(self._settings, self._run_folder, stem)
        if not self._is_of_others(first):
            return first
        if self._settings.output is not None:
            raise UsageError(
                f"--output {first}: it holds the answers for other images",
                expected="a new file, or answers for the same images",
                next_step="choose another file, or remove this one",
            )
        return self.numbered(first)

    def numbered(self, first: Path) -> Path:
        """Return a file, with a number in its name if it holds the answers for other images."""
        if not self._is_of_others(first):
            return first
        numbered = (first.with_name(f"{first.stem}-{number}{first.suffix}") for number in count(2))
        path = next(path for path in numbered if not self._is_of_others(path))
        logger.info("%s holds the answers for other images; these are written to %s", first, path.name)
        return path

    def record(self, path: Path) -> None:
        """Record that a file was written for these images."""
        if self._log is not None and self._written_for(path) != self._images:
            append_record(self._log, {"file": os.path.abspath(path), "images": self._images})  # noqa: PTH100

    def _written_for(self, path: Path) -> str | None:
        lines = read_records(self._log) if self._log is not None and self._log.is_file() else []
        own = os.path.abspath(path)  # noqa: PTH100 -- links stay as they are.
        return next((str(line["images"]) for line in reversed(lines) if line["file"] == own), None)

    def _is_of_others(self, path: Path) -> bool:
        if not path.is_file():
            return False
        if (written := self._written_for(path)) is not None:
            return written != self._images
        # Files of earlier versions are not recorded.
        return is_table(str(path)) and set(map(_stem, read_table(path).iloc[:, 0])) != self._ids


def _stem(name: str) -> str:
    return canonical_id(os.path.splitext(name)[0])  # noqa: PTH122 -- a Path per id is ten times slower.


def output_path(settings: InferenceSettings, run_folder: Path | None, stem: str) -> Path:
    """Return the file of an answer by name alone, see `AnswerFiles.path`."""
    if settings.output is not None:
        path = Path(settings.output)
        return path if path.suffix else path.with_suffix(".csv")
    folder = settings.output_folder or (run_folder / "output" if run_folder is not None else None)
    if folder is None:
        raise UsageError("--output is missing", expected="the CSV file to write, because there is no run")
    return Path(folder) / f"{stem}.csv"
