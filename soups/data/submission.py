"""Predictions as tables: in the columns and order of a template where there is one, and truth read back."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.data.layouts.folders import TEMPLATE_NAMES, format_list, lookup_keys
from soups.data.layouts.tables import check_unique_ids, read_test_ids
from soups.data.settings import DataSettings
from soups.files.atomic import read_table
from soups.files.prediction_tables import USUAL_ANSWERS

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

ID, ANSWER, CONFIDENCE = "image", "target", "confidence"


def find_template(data_locations: Sequence[str | Path], test_location: str | Path | None) -> Path | None:
    """The submission template beside the test images: `sample_submission.csv`, else `info.csv`; None without one.

    Looked for in and beside the test location, in the data locations and in their `test/`.
    """
    folders = []
    if test_location is not None:
        test = Path(test_location)
        folders += [test.parent] if test.is_file() else [test, test.parent]
    for location in data_locations:
        folders += [Path(location), Path(location) / "test"]
    candidates = [folder / name for name in TEMPLATE_NAMES for folder in folders]
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class SubmissionTable:
    """The table that predictions go into, a page of rows at a time."""

    ids: Sequence[str]
    """R names of images, as the table has them."""
    order: np.ndarray | None = None
    """(R,) int64, the place of each row's image among those predicted; None: their own order, R = N."""
    template: "pd.DataFrame | None" = None
    """Its R rows are taken over with the answer filled in; None: our own columns."""
    all_probabilities: bool = False
    """Whether our own columns have one for each class."""

    def wide(self, space: LabelSpace) -> bool:
        """Whether it has the probability of each class."""
        return self.all_probabilities if self.template is None else self._asks_for_each(space)

    def condensed(self, probabilities: np.ndarray, space: LabelSpace) -> np.ndarray:
        """What a page needs of probabilities (B, C): the best class and its probability, then all where it is wide.

        Returns:
            (B, 2) or (B, 2 + C) float64.
        """
        best = probabilities.argmax(axis=1)
        columns = [best, probabilities[np.arange(len(best)), best], *([probabilities] if self.wide(space) else [])]
        return np.column_stack(columns).astype(np.float64, copy=False)

    def pages(self, blocks: Iterable[np.ndarray], space: LabelSpace) -> "Iterator[pd.DataFrame]":
        """All its rows, from `condensed` answers (B, …) in their order."""
        start = 0
        for answers in blocks:
            yield self._page(start, answers, space)
            start += len(answers)

    def _page(self, start: int, answers: np.ndarray, space: LabelSpace) -> "pd.DataFrame":
        rows = slice(start, start + len(answers))
        best = answers[:, 0].astype(np.int64)
        if self.template is None:
            return _own_columns(self.ids[rows], best, answers[:, 1], answers[:, 2:], space)
        table = self.template.iloc[rows].reset_index(drop=True)
        if self._asks_for_each(space):
            return table.assign(**{name: answers[:, 2 + index] for index, name in enumerate(space.names)})
        answer = table.columns[-1] if ANSWER not in table.columns[1:] else ANSWER
        table[answer] = best if _uses_indices(self._placeholders, space) else space.decode(best)
        return table

    def _asks_for_each(self, space: LabelSpace) -> bool:
        return self.template is not None and set(self.template.columns[1:]) == set(space.names)

    @cached_property
    def _placeholders(self) -> frozenset[str]:
        assert self.template is not None
        answer = self.template.columns[-1] if ANSWER not in self.template.columns[1:] else ANSWER
        return frozenset(str(value).strip() for value in self.template[answer])


def table_from_template(path: Path, images: Sequence[str]) -> SubmissionTable:
    """The template's table with its answer to be filled in: its columns, its rows, its order.

    The first column holds the ids: an image's path or file name, with or without ending. A template with one column
    for each class gets probabilities; otherwise the answer is its last column, and is the class index where the
    template's own answers are whole numbers, else the class name.

    Args:
        path: a CSV; its answers are placeholders and never truth.
        images: N paths as the samples table has them.

    Raises:
        DataError: the template has one column only, or an id that is doubled, empty, or of no image or of several.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise DataError(f"{path}: one column only", expected="an id column and an answer column")
    ids = list(table.iloc[:, 0])
    rows = match_ids(ids, images, path)
    if unasked := len(images) - len(set(rows.tolist())):
        logger.warning("%s: does not ask for %d of the %d images", path, unasked, len(images))
    return SubmissionTable(ids, rows, table)


def table_from_listing(
    path: Path, images: Sequence[str], settings: DataSettings, all_probabilities: bool = False
) -> SubmissionTable:
    """Our own columns in the order of the CSV that named the test images, called as it calls them.

    Args:
        path: the CSV.
        images: N paths as the samples table has them.
        settings: name its column and the data location.
        all_probabilities: whether to add the columns of the classes, in the space's order.

    Raises:
        DataError: the CSV names an image that is not among them.
    """
    ids, named = read_test_ids(path, settings)
    place = {image: row for row, image in enumerate(images)}
    if settings.limit is not None:  # A first look has some of them alone.
        ids = [name for name, image in zip(ids, named, strict=True) if image in place]
        named = [image for image in named if image in place]
    if missing := [image for image in named if image not in place]:
        raise DataError(
            f"{path}: images that the run does not have: {format_list(missing, 5)}", next_step="restore the CSV"
        )
    return SubmissionTable(
        ids, np.array([place[image] for image in named], dtype=np.int64), all_probabilities=all_probabilities
    )


def _own_columns(
    ids: Sequence[str], best: np.ndarray, confidence: np.ndarray, probabilities: np.ndarray, space: LabelSpace
) -> "pd.DataFrame":
    """`image`, `target` (class name), `confidence` in [0, 1]; then one column for each class where there are any."""
    import pandas as pd

    table = pd.DataFrame({ID: list(ids), ANSWER: space.decode(best), CONFIDENCE: confidence})
    if not probabilities.shape[1]:
        return table
    return pd.concat([table, pd.DataFrame(probabilities, columns=list(space.names))], axis=1)


def read_truth(path: Path, images: Sequence[str], space: LabelSpace) -> list[str]:
    """The class names of `images`, N of them, from a CSV of ids and labels (names or indices).

    The label is the column `target`, `label` or `ans` where there is one, else the last.

    Raises:
        DataError: an image without a row, a doubled id, or a label that is no class.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise DataError(f"{path}: one column only", expected="an id column and a label column")
    ids = [str(value).strip() for value in table.iloc[:, 0]]
    check_unique_ids(ids, path)
    named = [name for name in USUAL_ANSWERS if name in table.columns[1:]]
    column = named[0] if named else table.columns[-1]
    try:
        labels = space.read_column(table[column])
    except DataError as error:
        raise DataError(f"{path}, column {column!r}: {error.problem}", expected=error.expected) from error
    label_of = dict(zip(ids, labels, strict=True))
    found = [next((label_of[key] for key in lookup_keys(image) if key in label_of), None) for image in images]
    if missing := [image for image, label in zip(images, found, strict=True) if label is None]:
        raise DataError(
            f"{path}: no row for {len(missing)} images: {format_list(missing, 5)}",
            expected="a row for each test image, named by path or file name, with or without ending",
        )
    return [label for label in found if label is not None]


def match_ids(ids: Sequence[str], images: Sequence[str], path: Path) -> np.ndarray:
    """For each id of a table the position of its image: (R,) int64.

    Raises:
        DataError: an id is empty, doubled, of no image, or of several.
    """
    ids = [str(name).strip() for name in ids]
    check_unique_ids(ids, path)
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        for key in lookup_keys(image):
            positions[key].append(position)
    if missing := [f"{name!r} (row {row})" for row, name in enumerate(ids, start=2) if name not in positions]:
        raise DataError(
            f"{path}: ids without an image: {format_list(missing, 5)}",
            expected=f"ids of the {len(images)} images, by path or file name, with or without ending",
            next_step="check --test-location, or leave the rows out",
        )
    taken: dict[int, int] = {}
    for row, name in enumerate(ids, start=2):
        hits = positions[name]
        if len(hits) > 1:
            several = format_list([images[hit] for hit in hits], 5)
            raise DataError(f"{path}, row {row}: {name!r} could be {len(hits)} images", found=several)
        if hits[0] in taken:
            raise DataError(f"{path}, rows {taken[hits[0]]} and {row}: both are {images[hits[0]]}")
        taken[hits[0]] = row
    return np.array([positions[name][0] for name in ids], dtype=np.int64)


def _uses_indices(placeholders: Collection[str], space: LabelSpace) -> bool:
    """Whether a template wants class indices: its own answers are whole numbers that are no class names.

    Where labels are made of factors, an empty column wants them too.
    """
    if space.factors and not any(placeholders):
        return True
    if not placeholders or any(not value.removeprefix("-").isdecimal() for value in placeholders):
        return False
    return not all(value in space.names for value in placeholders)
