"""Prediction tables of any source: a CSV with image ids, and with classes, probabilities of classes, or both.

Columns are found in `answer_columns.py`, several tables are aligned in `aligned_tables.py`."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.core.notes import add_note
from soups.files.answer_columns import (
    CONFIDENCE,
    GROUP,
    find_class_columns,
    find_id_column,
    find_label_column,
    read_numbers,
    read_probabilities,
)
from soups.files.plain_tables import KnownIds
from soups.files.tables import LABEL_COLUMNS, read_table

if TYPE_CHECKING:
    import pandas as pd

WHOLE = re.compile(r"\d+(\.0*)?", re.ASCII)
"""A whole number, as pandas may write it."""
_DECIMAL = re.compile(r"\d*\.?\d+(e-\d+)?", re.A | re.I)


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
    label_column: str | None
    """The column that the classes were read from; None: the classes are the most probable ones."""
    groups: list[str] | None
    """The column `group`, if there is one."""
    confidences: np.ndarray | None
    """(N,) float64, the column `confidence`, else the highest probability if there is no column of classes."""
    has_indices: bool = False
    """Whether the cells were indices of classes, not their names."""
    class_columns: dict[str, str] = field(default_factory=dict)
    """Column → class of the columns with the probability of each class."""
    is_binary: bool = False
    """Whether `label_column` holds the probability of the second of two classes."""
    frame: "pd.DataFrame | None" = field(default=None, repr=False, compare=False)
    """The table as text, its column of ids first; rows in the order of the file."""
    order: np.ndarray | None = field(default=None, repr=False, compare=False)
    """(N,) rows of `frame`, where `ids` have another order."""

    @property
    def labels(self) -> list[str]:
        """The class of each row."""
        return [self.classes[code] for code in self.codes]

    @property
    def probability_classes(self) -> list[str]:
        """The classes whose probabilities the table has, in the order of its columns; empty: it has none."""
        return self.classes if self.is_binary else list(self.class_columns.values())

    @cached_property
    def known_ids(self) -> KnownIds:
        """The ids, for finding the rows of other tables."""
        return KnownIds(self.ids)

    def probabilities(self, classes: Sequence[str]) -> np.ndarray:
        """Return the probabilities of classes, (N, C) float64, rows summing to one.

        Raises:
            DataError: the table has no probabilities or those of other classes, or a row is not valid; names the line.
        """
        own = self.probability_classes
        if not own or self.frame is None:
            raise DataError(
                f"{self.path}: has classes, but no probabilities",
                expected="a column with the probability of each class, as inference.py --probabilities writes",
                next_step="vote on classes: --hard-voting",
            )
        if set(own) != set(classes):
            raise DataError(
                f"{self.path}: has probabilities of other classes",
                expected=", ".join(classes),
                found=", ".join(own),
                next_step="use tables of the same classes",
            )
        if self.is_binary:
            second = _read_second_class(self.frame, str(self.label_column), self.path)
            values = np.column_stack([1 - second, second])
        else:
            values = read_probabilities(self.frame, list(self.class_columns), self.path)
        values = values[:, [own.index(name) for name in classes]]
        return values if self.order is None else values[self.order]


def read_predictions(path: Path, space: LabelSpace | None = None, like: Sequence[str] = ()) -> PredictionTable:
    """Read a table of predictions or of true labels.

    Args:
        path: a CSV.
        space: maps class names and indices to class names; None: classes are the text of the cells.
        like: ids of another table of the same images, by which the column of ids is known.

    Raises:
        DataError: the table is not readable or has no rows, an id is repeated or empty, a cell is not a class, or the
            columns are not clear; names file and line.
    """
    return parse_predictions(read_table(path), path, space, like)


def parse_predictions(
    table: "pd.DataFrame", path: Path, space: LabelSpace | None = None, like: Sequence[str] = ()
) -> PredictionTable:
    """Parse a table of text cells, see `read_predictions`; `path` is used in messages.

    Raises:
        DataError: as `read_predictions`.
    """
    if table.empty or table.shape[1] < 2:
        raise DataError(
            f"{path}: no labels",
            expected="a header and rows, the image id in one column and the class in another",
            found=f"{len(table)} rows with the columns {', '.join(map(str, table.columns))}",
        )
    id_column = find_id_column(table, path, like)
    table = table[[id_column, *(name for name in table.columns if name != id_column)]]
    ids = [str(name).strip() for name in table.iloc[:, 0].tolist()]
    _check_ids(ids, path)
    groups = [str(cell).strip() for cell in table[GROUP]] if GROUP in table.columns[1:] else None
    class_columns = find_class_columns(table, path, space)
    confidences = _read_confidences(table, path)
    column = None if class_columns else find_label_column(table, path, space)
    if class_columns and (column := _find_answers(table, path, space, class_columns)) is None:
        values, classes = read_probabilities(table, list(class_columns), path), list(class_columns.values())
        codes, highest = values.argmax(axis=1), values.max(axis=1) if confidences is None else confidences
        return PredictionTable(path, ids, codes, classes, None, groups, highest, False, class_columns, frame=table)
    cells = table[column].tolist()
    if not class_columns and are_fractions(set(cells), space):
        second = _read_second_class(table, str(column), path)
        names = ["0", "1"] if space is None else list(space.names)
        codes, highest = (second > 0.5).astype(np.int64), np.maximum(second, 1 - second)
        return PredictionTable(path, ids, codes, names, column, groups, highest, is_binary=True, frame=table)
    if class_columns and space is None:
        class_columns = _respell(class_columns, cells)
    try:
        own = LabelSpace(tuple(class_columns.values())) if class_columns and space is None else space
        codes, classes, has_indices = read_classes(cells, ids, path, own)
    except DataError:
        if space is not None or not class_columns:
            raise
        shown = ", ".join(class_columns)
        add_note("read as", f"{path}: {shown} are not the classes in column {column!r}, so they are not read")
        class_columns, (codes, classes, has_indices) = {}, read_classes(cells, ids, path, None)
    return PredictionTable(
        path, ids, codes, classes, column, groups, confidences, has_indices, class_columns, frame=table
    )


def _find_answers(
    table: "pd.DataFrame", path: Path, space: LabelSpace | None, class_columns: dict[str, str]
) -> str | None:
    """Return the column with the class in a table that has probabilities; None if there is none.

    Without a usual name it is one with names of classes, or with indices that are the most probable class in most rows.

    Raises:
        DataError: several columns fit.
    """
    rest = [str(name) for name in table.columns[1:] if name not in class_columns]
    if any(name.lower() in LABEL_COLUMNS for name in rest):
        return find_label_column(table, path, space, class_columns)
    best = read_probabilities(table, list(class_columns), path).argmax(axis=1)
    found = []
    for name in rest:
        cells = table[name].tolist()
        own = space or LabelSpace(tuple(_respell(class_columns, cells).values()))
        try:
            codes, classes, has_indices = read_classes(cells, table.iloc[:, 0].tolist(), path, own)
        except DataError:
            continue
        if not has_indices or (own.encode(classes)[codes] == best).mean() > 0.5:
            found.append(name)
    return find_label_column(table[[table.columns[0], *found]], path, space) if found else None


def _respell(class_columns: dict[str, str], cells: Sequence[str]) -> dict[str, str]:
    """Return column → class with the classes as the cells of another column spell them, where only the case differs."""
    spelling = {name.casefold(): name for name in (unicodedata.normalize("NFC", cell.strip()) for cell in set(cells))}
    found = {column: spelling.get(name.casefold(), name) for column, name in class_columns.items()}
    return found if len(set(found.values())) == len(found) else class_columns


def read_classes(
    cells: Sequence[str], ids: Sequence[str], path: Path, space: LabelSpace | None
) -> tuple[np.ndarray, list[str], bool]:
    """Return codes (N,) int64, the class of each code, and whether the cells are indices.

    Raises:
        DataError: a cell is empty or not a class.
    """
    # Strings are mapped once per distinct answer, because a vote may read hundreds of tables.
    code_of = {cell: code for code, cell in enumerate(dict.fromkeys(cells))}
    codes = np.fromiter(map(code_of.__getitem__, cells), np.int64, len(cells))
    names = {} if space is None else {unicodedata.normalize("NFC", name): name for name in space.names}
    composed = [unicodedata.normalize("NFC", text) for text in code_of]
    answers = [names.get(text) or names.get(text.strip(), text.strip()) for text in composed]
    if "" in answers:
        row = int(np.flatnonzero(np.array([answer == "" for answer in answers])[codes])[0])
        raise DataError(
            f"{path}, line {row + 2}: no class for the id {ids[row]!r}",
            expected="a class for every image",
            next_step="the file may be truncated: write it again",
        )
    has_indices = space is not None and not set(answers) <= set(space.names)
    if (has_indices or space is None) and all(WHOLE.fullmatch(answer) for answer in answers):
        answers = [answer.partition(".")[0] for answer in answers]  # pandas writes 0.0 if a cell was missing once.
    try:
        return codes, answers if space is None else space.read_column(answers), has_indices
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", expected=error.expected, found=error.found) from error


def are_fractions(cells: set[str], space: LabelSpace | None) -> bool:
    """Whether answers are numbers that are not all whole: the probability of the second of two classes."""
    if space is not None and (len(space) != 2 or cells & set(space.names)):
        return False
    texts = [cell.strip().replace(",", ".") for cell in cells]
    return all(map(_DECIMAL.fullmatch, texts)) and not all(map(WHOLE.fullmatch, texts))


def _read_second_class(table: "pd.DataFrame", column: str, path: Path) -> np.ndarray:
    values = read_numbers(table[column], path, column, "a number")
    if values.min() < 0 or values.max() > 1:
        row = int(np.flatnonzero((values < 0) | (values > 1))[0])
        raise DataError(
            f"{path}, line {row + 2}: {column!r} is neither a class nor a probability",
            expected="classes, or the probability of the second of two classes, from 0 to 1",
            found=table[column].iloc[row],
        )
    add_note("read as", f"{path}: column {column!r} is the probability of the second class")
    return values


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


def _read_confidences(table: "pd.DataFrame", path: Path) -> np.ndarray | None:
    """Return the column `confidence`, (N,) float64; None if there is none.

    Raises:
        DataError: a confidence is not a finite number; names the line.
    """
    if CONFIDENCE not in table.columns[1:]:
        return None
    values = read_numbers(table[CONFIDENCE], path, CONFIDENCE, "a number, or no such column,")
    if 1.5 < values.max() <= 100:
        add_note("read as", f"{path}: the {CONFIDENCE} is in per cent; divided by 100")
        return values / 100
    return values
