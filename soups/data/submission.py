"""Submission tables: predictions in the columns and row order of a template, or in our own; reading true labels.

Ids are matched with images here, too. Prediction tables are read in `files/prediction_tables.py`."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.data.layouts.image_files import TEMPLATE_NAMES, format_list, lookup_keys, positions_by_key
from soups.data.layouts.image_search import check_one_match, repeated_rows
from soups.data.layouts.set_folders import with_test_folders
from soups.data.layouts.tables import check_unique_ids, read_test_ids
from soups.data.settings import DataSettings
from soups.data.template import TemplateForm, read_form
from soups.files.prediction_tables import read_predictions
from soups.files.tables import canonical_id, read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

ID, ANSWER, CONFIDENCE = "image", "target", "confidence"


def find_template(data_locations: Sequence[str | Path], test_location: str | Path | None) -> Path | None:
    """Return the path of the submission template, `sample_submission.csv` or else `info.csv`; None if neither exists.

    Searches the test location, its parent folder, the data locations and their test sets.
    """
    folders = [folder for location in data_locations for folder in with_test_folders(Path(location))]
    if test_location is not None:
        folders = [Path(test_location), Path(test_location).parent, *folders]
    candidates = [folder / name for name in TEMPLATE_NAMES for folder in folders]
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class SubmissionTable:
    """The table that predictions are written to, in pages of rows."""

    ids: Sequence[str]
    """R image ids, as written in the table."""
    order: np.ndarray | None = None
    """(R,) int64, position of each row's image among the N predicted images; None: rows are those images in order."""
    template: "pd.DataFrame | None" = None
    """Template of R rows, whose answer column is filled in; None: our own columns."""
    all_probabilities: bool = False
    """Whether our own columns include the probability of each class."""
    _forms: dict[tuple[str, ...], TemplateForm] = field(default_factory=dict, repr=False, compare=False)
    """Class names → the template's form, once it was read."""

    def has_all_probabilities(self, space: LabelSpace) -> bool:
        """Return whether the table has a column of probabilities for each class."""
        return self.all_probabilities if self.template is None else self.form(space).kind == "probabilities"

    def form(self, space: LabelSpace) -> TemplateForm:
        """Return what the template asks for."""
        assert self.template is not None
        if space.names not in self._forms:
            self._forms[space.names] = read_form(self.template, space)
        return self._forms[space.names]

    def compact(self, probabilities: np.ndarray, space: LabelSpace) -> np.ndarray:
        """Reduce probabilities (B, C) to what the table needs.

        Returns:
            (B, 2) float64 with the index of the most probable class and its probability, or (B, 2 + C) with all
            probabilities after them if the table has a column for each class.
        """
        columns = [probabilities.argmax(axis=1), probabilities.max(axis=1)]
        columns += [probabilities] if self.has_all_probabilities(space) else []
        return np.column_stack(columns).astype(np.float64, copy=False)

    def pages(self, blocks: Iterable[np.ndarray], space: LabelSpace) -> "Iterator[pd.DataFrame]":
        """Yield the table in pages, one for each block of `compact` answers (B, …) in row order."""
        start = 0
        for answers in blocks:
            yield self._page(start, answers, space)
            start += len(answers)

    def _page(self, start: int, answers: np.ndarray, space: LabelSpace) -> "pd.DataFrame":
        import pandas as pd

        rows = slice(start, start + len(answers))
        best = answers[:, 0].astype(np.int64)
        if self.template is None:
            table = pd.DataFrame({ID: self.ids[rows], ANSWER: space.decode(best), CONFIDENCE: answers[:, 1]})
            if not self.all_probabilities:
                return table
            # A class may have the name of one of our own columns.
            return pd.concat([table, pd.DataFrame(answers[:, 2:], columns=list(space.names))], axis=1)
        table, form = self.template.iloc[rows].reset_index(drop=True), self.form(space)
        if form.kind == "probabilities":
            values = {column: answers[:, 2 + index] for column, index in form.columns.items()}
            return table.assign(**values, **dict.fromkeys(form.no_classes, 0))
        (answer,) = form.columns
        table[answer] = best if form.kind == "indices" else space.decode(best)
        return table


def belongs_to(path: Path, images: Sequence[str], *, wholly: bool) -> bool:
    """Return whether a template names at least one of the images in its first column, or with `wholly` only images."""
    keys = positions_by_key(images).keys()
    found = [canonical_id(name) in keys for name in read_table(path).iloc[:, 0]]
    return all(found) if wholly else any(found)


def table_from_template(path: Path, images: Sequence[str]) -> SubmissionTable:
    """Return a submission table with the columns and rows of a template.

    The first column holds the ids: an image's path or file name, with or without file extension. What the other
    columns ask for is in `read_form`.

    Args:
        path: the template, a CSV; its answers are placeholders and never used as true labels.
        images: N paths as in the samples table.

    Raises:
        DataError: the template has only one column, or an id is empty, repeated, or matches no image or several.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise DataError(f"{path}: one column only", expected="an id column and an answer column")
    ids = list(table.iloc[:, 0])
    rows = match_ids(ids, images, path)
    if unlisted := len(images) - len(set(rows.tolist())):
        logger.warning("%s: does not list %d of the %d images", path, unlisted, len(images))
    return SubmissionTable(ids, rows, table)


def table_from_listing(
    path: Path, images: Sequence[str], settings: DataSettings, all_probabilities: bool = False
) -> SubmissionTable:
    """Return a submission table in our own columns, with the ids and row order of the CSV that lists the test images.

    Args:
        path: the CSV.
        images: N paths as in the samples table.
        settings: data settings with the CSV's image column and the data location.
        all_probabilities: whether to add a column for each class, in the order of the label space.

    Raises:
        DataError: the CSV lists an image that is not in `images`.
    """
    listed = list(zip(*read_test_ids(path, settings), strict=True))
    row = {image: index for index, image in enumerate(images)}
    if settings.limit is not None:  # A limited run has only some of the listed images.
        listed = [(name, image) for name, image in listed if image in row]
    if missing := [image for _, image in listed if image not in row]:
        problem = f"{path}: images that the run does not have: {format_list(missing, 5)}"
        raise DataError(problem, next_step="restore the CSV")
    order = np.array([row[image] for _, image in listed], dtype=np.int64)
    return SubmissionTable([name for name, _ in listed], order, all_probabilities=all_probabilities)


def read_truth(path: Path, images: Sequence[str], space: LabelSpace) -> list[str]:
    """Return the N class names of `images` from a CSV of ids and labels (class names or indices).

    The table is read as tables of predictions are (`files/prediction_tables.py`).

    Raises:
        DataError: the table is not readable, an image has no row, an id is repeated or matches several images, or a
            label is not a class.
    """
    table = read_predictions(path, space)
    ids, labels = list(map(canonical_id, table.ids)), table.labels
    check_unique_ids(ids, path)
    label_by_id = dict(zip(ids, labels, strict=True))
    found = [next((label_by_id[key] for key in lookup_keys(image) if key in label_by_id), None) for image in images]
    positions = positions_by_key(images)
    for row, name in enumerate(ids, start=2):
        if name in positions:
            check_one_match([images[position] for position in positions[name]], name, row, path)
    if missing := [image for image, label in zip(images, found, strict=True) if label is None]:
        raise DataError(
            f"{path}: no row for {len(missing)} images: {format_list(missing, 5)}",
            expected="a row for each test image, by path or file name, with or without file extension",
        )
    return [label for label in found if label is not None]


def match_ids(ids: Sequence[str], images: Sequence[str], path: Path) -> np.ndarray:
    """Return the position of each id's image, (R,) int64.

    Args:
        ids: R image ids of a table: paths or file names, with or without file extension.
        images: N paths as in the samples table.
        path: the table, for messages.

    Raises:
        DataError: an id is empty, repeated, or matches no image or several, or two ids match the same image.
    """
    ids = list(map(canonical_id, ids))
    check_unique_ids(ids, path)
    positions = positions_by_key(images)
    if missing := [f"{name!r} (row {row})" for row, name in enumerate(ids, start=2) if name not in positions]:
        raise DataError(
            f"{path}: ids without an image: {format_list(missing, 5)}",
            expected=f"ids of the {len(images)} images, by path or file name, with or without file extension",
            next_step="check --test-location, or remove the rows",
        )
    for row, name in enumerate(ids, start=2):
        check_one_match([images[position] for position in positions[name]], name, row, path)
    order = [positions[name][0] for name in ids]
    if rows := repeated_rows(order):
        raise DataError(
            f"{path}, rows {rows[0]} and {rows[1]}: both are {images[order[rows[0] - 2]]}",
            expected="each image once",
            next_step="remove one of the rows",
        )
    return np.array(order, dtype=np.int64)
