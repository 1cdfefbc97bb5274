"""Prediction tables of any source: a CSV with the image id in the first column and the class in another.

Reading and alignment by id are here. Votes over several tables are in `ensembles/csv_vote.py`."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.tables import LABEL_COLUMNS, read_table

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE, GROUP = "confidence", "group"

logger = logging.getLogger(__name__)

_SHOWN = 5
_WHOLE = re.compile(r"\d+(\.0*)?")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")


@dataclass(frozen=True)
class PredictionTable:
    """One prediction table of N rows, in file order."""

    path: Path
    ids: list[str]
    """N distinct image ids."""
    codes: np.ndarray
    """(N,) int64, positions in `classes`."""
    classes: list[str]
    """Class of each code: a class name, or the cell's text if no label space was passed. May contain repeats."""
    label_column: str
    """The column that the classes were read from."""
    groups: list[str] | None
    """The column `group`, if there is one."""
    confidences: np.ndarray | None
    """(N,) float64, the column `confidence`, if there is one."""
    has_indices: bool = False
    """Whether the cells were indices of classes, not their names."""

    @property
    def labels(self) -> list[str]:
        """The class of each row."""
        return [self.classes[code] for code in self.codes]

    def rows_for(self, other: "PredictionTable") -> np.ndarray:
        """Return for each row of another table the row of this table with the same image, (M,) int64.

        Raises:
            DataError: one of the tables has images that are not in the other.
        """
        if self.ids == other.ids:
            return np.arange(len(self.ids))
        own, others = _matching_keys(self.ids, other.ids)
        row_of = {name: row for row, name in enumerate(own)}
        missing = [name for name in others if name not in row_of]
        extra = sorted(set(own) - set(others))
        for names, verb in ((missing, "lacks"), (extra, "has also")):
            if names:
                shown = ", ".join(names[:_SHOWN]) + f", … and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
                raise DataError(
                    f"{self.path}: {verb} {len(names)} image{'s' * (len(names) > 1)}: {shown}",
                    expected=f"the {len(other.ids)} images of {other.path}",
                    next_step=_hint_of_zeros(self.ids, other.ids) or "use tables of the same images",
                )
        return np.array([row_of[name] for name in others], dtype=np.int64)


def _matching_keys(first: list[str], second: list[str]) -> tuple[list[str], list[str]]:
    """Return the ids of two tables in the spelling in which they agree.

    Where the ids differ as they are, they are compared without file endings, with `/` for `\\` and in Unicode's
    composed form (NFC); only if no two ids of a table become equal and both tables then have the same ids.
    """
    if set(first) != set(second):
        keys, others = [_canonical_id(name) for name in first], [_canonical_id(name) for name in second]
        if len(set(keys)) == len(first) and len(set(others)) == len(second) and set(keys) == set(others):
            return keys, others
    return first, second


def _canonical_id(name: str) -> str:
    composed = unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
    return _ENDING.sub("", composed)


def _hint_of_zeros(first: Sequence[str], second: Sequence[str]) -> str | None:
    """Return a next step if the ids of one table are those of the other without leading zeros."""
    if {name.lstrip("0") for name in first} == {name.lstrip("0") for name in second}:
        return "one of the tables has lost the leading zeros of its ids, as spreadsheets do: write it again as text"
    return None


def read_predictions(path: Path, space: LabelSpace | None = None) -> PredictionTable:
    """Read a table of predictions or of true labels.

    Args:
        path: a CSV.
        space: maps class names and indices to class names; None: classes are the text of the cells.

    Raises:
        DataError: the table is not readable or has no rows, an id is repeated or empty, or a cell is not a class;
            names file and line.
    """
    return parse_predictions(read_table(path), path, space)


def parse_predictions(table: "pd.DataFrame", path: Path, space: LabelSpace | None = None) -> PredictionTable:
    """Parse a table of text cells, see `read_predictions`; `path` is used in messages.

    Raises:
        DataError: as `read_predictions`.
    """
    import pandas as pd

    if table.empty or table.shape[1] < 2:
        raise DataError(
            f"{path}: no labels",
            expected="a header and rows, the image id in the first column and the class in another",
            found=f"{len(table)} rows with the columns {', '.join(map(str, table.columns))}",
        )
    ids = [str(name).strip() for name in table.iloc[:, 0].tolist()]
    _check_ids(ids, path)
    column = find_label_column(table, path, space)
    # Strings are mapped once per distinct answer, because a vote may read hundreds of tables.
    codes, distinct = pd.factorize(table[column])
    names = () if space is None else space.names
    cells = [text if text in names else text.strip() for text in map(str, distinct)]
    if "" in cells:
        row = int(np.flatnonzero(np.array([cell == "" for cell in cells])[codes])[0])
        raise DataError(
            f"{path}, line {row + 2}: no class for the id {ids[row]!r}",
            expected="a class for every image",
            next_step="the file may be truncated: write it again",
        )
    has_indices = space is not None and not set(cells) <= set(space.names)
    if has_indices and all(_WHOLE.fullmatch(cell) for cell in cells):
        cells = [cell.partition(".")[0] for cell in cells]  # pandas writes indices as 0.0 if a cell was missing once.
    try:
        classes = cells if space is None else space.read_column(cells)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", expected=error.expected, found=error.found) from error
    groups = [str(cell).strip() for cell in table[GROUP]] if GROUP in table.columns[1:] else None
    confidences = _read_confidences(table, path)
    return PredictionTable(path, ids, codes.astype(np.int64), classes, column, groups, confidences, has_indices)


def _check_ids(ids: Sequence[str], path: Path) -> None:
    """Raise if an id is empty or repeated."""
    distinct = set(ids)
    if len(distinct) == len(ids) and "" not in distinct:
        return
    lines: dict[str, int] = {}
    for line, name in enumerate(ids, start=2):
        if not name:
            raise DataError(f"{path}, line {line}: the image's id is empty", expected="an id in every row")
        if name in lines:
            raise DataError(
                f"{path}, line {line}: the id {name!r} appears twice",
                expected="one row for each image",
                found=f"the other is line {lines[name]}",
                next_step="remove one of the two rows",
            )
        lines[name] = line


def find_label_column(table: "pd.DataFrame", path: Path, space: LabelSpace | None) -> str:
    """Return the column with the class: a usual name, or else the only column without another meaning.

    Columns with another meaning are the first (ids), `confidence`, `group` and those named after a class of `space`.

    Raises:
        DataError: none or several columns remain.
    """
    columns = [str(column) for column in table.columns[1:]]
    classes = set(space.names) if space is not None else set()
    candidates = [name for name in columns if name.lower() in LABEL_COLUMNS and name not in classes]
    candidates = candidates or [name for name in columns if name in LABEL_COLUMNS]
    if len(candidates) > 1 and all(table[name].equals(table[candidates[0]]) for name in candidates):
        candidates = candidates[:1]
    candidates = candidates or [name for name in columns if name not in {CONFIDENCE, GROUP, *classes}]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: which column holds the class is not clear",
            expected=f"one of the columns {', '.join(LABEL_COLUMNS)}, or one besides the id and {CONFIDENCE!r}",
            found=f"the columns {', '.join(columns)}",
            next_step="keep only the column of classes, or rename the others",
        )
    return candidates[0]


def _read_confidences(table: "pd.DataFrame", path: Path) -> np.ndarray | None:
    """Return the column `confidence`, (N,) float64; None if there is none.

    Raises:
        DataError: a confidence is not a finite number; names the line.
    """
    import pandas as pd

    if CONFIDENCE not in table.columns[1:]:
        return None
    values = pd.to_numeric(table[CONFIDENCE], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"{path}, line {row + 2}: the {CONFIDENCE} is not a number",
            expected="a number, or no such column",
            found=repr(table[CONFIDENCE].iloc[row]),
        )
    if 1.5 < values.max() <= 100:
        logger.info("%s: the %s is in per cent; divided by 100", path, CONFIDENCE)
        return values / 100
    return values
