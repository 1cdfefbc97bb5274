"""Tables of answers, whatever wrote them: the image's id in the first column, its class in another."""

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
USUAL_ANSWERS = ("target", "label", "ans")

_SHOWN = 5


@dataclass(frozen=True)
class PredictionTable:
    """One table, in its own order."""

    path: Path
    ids: list[str]
    """N ids, all different."""
    answers: list[str]
    """Class names, or their own text where no label space was given."""
    groups: list[str] | None
    """Of a column `group`."""
    confidences: np.ndarray | None
    """(N,) float64."""

    def order_of(self, others: "PredictionTable") -> np.ndarray:
        """For each row of another table the row here that is about the same image: (N,) int64.

        Raises:
            DataError: one of the two has images that the other lacks; names them.
        """
        place = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in others.ids if name not in place]
        foreign = sorted(set(self.ids) - set(others.ids))
        for names, verb in ((missing, "lacks"), (foreign, "has also")):
            if names:
                shown = ", ".join(names[:_SHOWN]) + f", … and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
                raise DataError(
                    f"{self.path}: {verb} {len(names)} image{'s' * (len(names) > 1)}: {shown}",
                    expected=f"the {len(others.ids)} images of {others.path}",
                    next_step="use tables of the same images",
                )
        return np.array([place[name] for name in others.ids], dtype=np.int64)


def read_predictions(path: Path, space: LabelSpace | None = None) -> PredictionTable:
    """A table of predictions, or of the truth.

    Args:
        path: a CSV.
        space: reads classes given as names or as indices; None: answers stay text.

    Raises:
        DataError: the table is not readable or has no rows, an id is doubled or empty, or an answer is no class; names
            file and line.
    """
    table = read_table(path)
    if table.empty or table.shape[1] < 2:
        found = f"{len(table)} rows with the columns {', '.join(map(str, table.columns))}"
        expected = "a header and rows, the image id in the first column and the class in another"
        raise DataError(f"{path}: no answers", expected=expected, found=found)
    ids = [str(name).strip() for name in table.iloc[:, 0]]
    _refuse_doubled(ids, path)
    cells = [str(cell).strip() for cell in table[find_label_column(table, path, None, space, leave_out=(GROUP,))]]
    if "" in cells:
        line = cells.index("") + 2
        raise DataError(
            f"{path}, line {line}: no class for the id {ids[line - 2]!r}", expected="a class for every image"
        )
    try:
        answers = cells if space is None else space.read_column(cells)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", expected=error.expected, found=error.found) from error
    groups = [str(cell).strip() for cell in table[GROUP]] if GROUP in table.columns[1:] else None
    return PredictionTable(path, ids, answers, groups, read_confidences(table, path))


def _refuse_doubled(ids: Sequence[str], path: Path) -> None:
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
    """The column that holds the class: as told, a usual name, or the only one besides id and confidence.

    Raises:
        DataError: there is no such column, or it is not clear which one it is.
    """
    columns = [str(column) for column in table.columns[1:]]
    if answer is not None:
        if answer not in columns:
            raise DataError(f"{path}: lacks the column {answer!r}", found=f"the columns {', '.join(columns)}")
        return answer
    for name in USUAL_ANSWERS:
        if name in columns:
            return name
    names = set(space.names) if space is not None else set()
    candidates = [name for name in columns if name != CONFIDENCE and name not in {*names, *leave_out}]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: which column holds the class is not clear",
            expected=f"a column {USUAL_ANSWERS[0]!r}, or a single one besides the id and {CONFIDENCE!r}",
            found=f"the columns {', '.join(columns)}",
        )
    return candidates[0]


def read_confidences(table: "pd.DataFrame", path: Path) -> np.ndarray | None:
    """(N,) float64, the column `confidence`; None where there is none.

    Raises:
        DataError: a confidence is no number; names the line.
    """
    import pandas as pd

    if CONFIDENCE not in table.columns[1:]:
        return None
    values = pd.to_numeric(table[CONFIDENCE], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"{path}, line {row + 2}: the {CONFIDENCE} is no number",
            expected="a number, or no such column",
            found=repr(table[CONFIDENCE].iloc[row]),
        )
    return values
