"""CSV tables of predictions or true labels: the image's id in the first column, its class in another."""

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
"""Recognised names of the column of classes, in the order of precedence."""

_LISTED_NAMES = 5


@dataclass(frozen=True)
class PredictionTable:
    """The rows of one table, in the order of the file."""

    path: Path
    ids: list[str]
    """N distinct image ids."""
    labels: list[str]
    """N class names, or the text of the cells if no label space was given."""
    groups: list[str] | None
    """N entries of the column `group`; None without it."""
    confidences: np.ndarray | None
    """(N,) float64; None without the column `confidence`."""

    def rows_for(self, other: "PredictionTable") -> np.ndarray:
        """Return for each row of another table the row of the same image in this one: (N,) int64.

        Raises:
            DataError: one of the tables lacks images of the other; the message names them.
        """
        row_of = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in other.ids if name not in row_of]
        foreign = sorted(set(self.ids) - set(other.ids))
        for names, verb in ((missing, "lacks"), (foreign, "has also")):
            if names:
                more = len(names) - _LISTED_NAMES
                listed = ", ".join(names[:_LISTED_NAMES]) + f", … and {more} more" * (more > 0)
                raise DataError(
                    f"{self.path}: {verb} {len(names)} image{'s' * (len(names) > 1)}: {listed}",
                    expected=f"the {len(other.ids)} images of {other.path}",
                    next_step="use tables of the same images",
                )
        return np.array([row_of[name] for name in other.ids], dtype=np.int64)


def read_predictions(path: Path, space: LabelSpace | None = None) -> PredictionTable:
    """Read a CSV table of predictions or of true labels.

    Args:
        path: the file.
        space: converts cells with class names or indices to class names; None keeps the text.

    Raises:
        DataError: the table is not readable or has no rows, an id is repeated or empty, or a cell is not a class; the
            message names file and line.
    """
    table = read_table(path)
    if table.empty or table.shape[1] < 2:
        found = f"{len(table)} rows with the columns {', '.join(map(str, table.columns))}"
        expected = "a header and rows, the image id in the first column and the class in another"
        raise DataError(f"{path}: no labels", expected=expected, found=found)
    ids = [str(name).strip() for name in table.iloc[:, 0]]
    _require_unique_ids(ids, path)
    cells = [str(cell).strip() for cell in table[find_label_column(table, path, None, space, leave_out=(GROUP,))]]
    if "" in cells:
        line = cells.index("") + 2
        raise DataError(
            f"{path}, line {line}: no class for the id {ids[line - 2]!r}", expected="a class for every image"
        )
    try:
        labels = cells if space is None else space.read_column(cells)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", expected=error.expected, found=error.found) from error
    groups = [str(cell).strip() for cell in table[GROUP]] if GROUP in table.columns[1:] else None
    return PredictionTable(path, ids, labels, groups, read_confidences(table, path))


def _require_unique_ids(ids: Sequence[str], path: Path) -> None:
    lines: dict[str, int] = {}
    for line, name in enumerate(ids, start=2):
        if not name:
            raise DataError(f"{path}, line {line}: the image's id is empty")
        if name in lines:
            raise DataError(
                f"{path}, line {line}: the id {name!r} appears twice",
                expected="one row for each image",
                found=f"the other is line {lines[name]}",
                next_step="remove one of the two rows",
            )
        lines[name] = line


def find_label_column(
    table: "pd.DataFrame",
    path: Path,
    answer: str | None,
    space: LabelSpace | None,
    leave_out: Sequence[str] = (),
) -> str:
    """Return the name of the column of classes.

    This is `answer`, else the first of `LABEL_COLUMNS`, else the only column besides the id and `confidence`.

    Args:
        table: its first column has the ids.
        path: the table's file, for messages.
        answer: the name of the column, if the user gave it.
        space: columns named like classes hold probabilities and are not considered.
        leave_out: names of further columns that are not considered.

    Raises:
        DataError: there is no such column, or there are several.
    """
    columns = [str(column) for column in table.columns[1:]]
    if answer is not None:
        if answer not in columns:
            raise DataError(f"{path}: lacks the column {answer!r}", found=f"the columns {', '.join(columns)}")
        return answer
    for name in LABEL_COLUMNS:
        if name in columns:
            return name
    names = set(space.names) if space is not None else set()
    candidates = [name for name in columns if name != CONFIDENCE and name not in {*names, *leave_out}]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: which column holds the class is not clear",
            expected=f"a column {LABEL_COLUMNS[0]!r}, or a single one besides the id and {CONFIDENCE!r}",
            found=f"the columns {', '.join(columns)}",
        )
    return candidates[0]


def read_confidences(table: "pd.DataFrame", path: Path) -> np.ndarray | None:
    """Return the column `confidence`, (N,) float64; None if the table lacks it.

    Raises:
        DataError: a confidence is not a finite number; the message names the line.
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
