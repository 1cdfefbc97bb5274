"""Prediction tables of any source: a CSV with the image id in the first column and the class in another.

Reading and alignment by id are here. Votes over several tables are in `ensembles/csv_vote.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.atomic import read_table

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE, GROUP = "confidence", "group"
LABEL_COLUMNS = ("target", "label", "ans")

_SHOWN = 5


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
        row_of = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in other.ids if name not in row_of]
        extra = sorted(set(self.ids) - set(other.ids))
        for names, verb in ((missing, "lacks"), (extra, "has also")):
            if names:
                shown = ", ".join(names[:_SHOWN]) + f", … and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
                raise DataError(
                    f"{self.path}: {verb} {len(names)} image{'s' * (len(names) > 1)}: {shown}",
                    expected=f"the {len(other.ids)} images of {other.path}",
                    next_step="use tables of the same images",
                )
        return np.array([row_of[name] for name in other.ids], dtype=np.int64)


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
    cells = [str(text).strip() for text in distinct]
    if "" in cells:
        row = int(np.flatnonzero(np.array([cell == "" for cell in cells])[codes])[0])
        raise DataError(
            f"{path}, line {row + 2}: no class for the id {ids[row]!r}",
            expected="a class for every image",
            next_step="the file may be truncated: write it again",
        )
    try:
        classes = cells if space is None else space.read_column(cells)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", expected=error.expected, found=error.found) from error
    groups = [str(cell).strip() for cell in table[GROUP]] if GROUP in table.columns[1:] else None
    return PredictionTable(path, ids, codes.astype(np.int64), classes, column, groups, _read_confidences(table, path))


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
    others = {CONFIDENCE, GROUP, *(space.names if space is not None else ())}
    usual = [name for name in LABEL_COLUMNS if name in columns]
    candidates = usual[:1] or [name for name in columns if name not in others]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: which column holds the class is not clear",
            expected=f"a column {LABEL_COLUMNS[0]!r}, or a single one besides the id and {CONFIDENCE!r}",
            found=f"the columns {', '.join(columns)}",
            next_step=f"rename the column of classes to {LABEL_COLUMNS[0]}",
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
    return values
