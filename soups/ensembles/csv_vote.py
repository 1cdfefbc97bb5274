"""Majority votes over prediction tables, aligned by image id.

Reading of the tables is in `files/prediction_tables.py`; votes over probabilities are in `rules.py`."""

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import SEPARATOR, LabelSpace
from soups.ensembles.rules import count_votes
from soups.files.prediction_tables import CONFIDENCE, PredictionTable, parse_predictions, read_predictions
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

_CELLS_AT_ONCE = 4_000_000  # Votes (images × classes) per block: 32 MB for each of three arrays.


def vote_tables(paths: Sequence[Path], space: LabelSpace | None = None, *, split: bool = False) -> "pd.DataFrame":
    """Return the majority vote of several prediction tables.

    Each table has the image id in its first column and the class in `target`, `label`, `ans` or its only other column.
    Ties go to the class with the highest sum of confidences if every table has a column `confidence`. Remaining ties
    go to the class of the earliest table in `paths`.

    Args:
        paths: one or more CSV files, with rows in any order.
        space: maps class names and indices to class names; None: classes are compared as text.
        split: vote on each factor of `space` separately; the winning levels form the class.

    Returns:
        The first table's columns, rows and order, with the winning classes (as indices if the first table has indices).
        Its column `confidence`, if any, holds the winner's share of votes, and columns named after classes hold each
        class's share; other columns do not change. With `split`, the winner's share is the product over the factors.

    Raises:
        UsageError: no table is passed, or `split` is set for classes without factors.
        DataError: a table is not readable, has no rows, has other ids than the first, or has an answer that is not a
            class; names file and id.
    """
    if not paths:
        raise UsageError("a vote over no tables", expected="at least one CSV file")
    first = read_table(paths[0])
    tables = [parse_predictions(first, paths[0], space), *(read_predictions(path, space) for path in paths[1:])]
    _check_same_kind(tables, space)
    classes = list(dict.fromkeys(chain(*(table.classes for table in tables)) if space is None else space.names))
    codes, confidences = _stack_votes(tables, classes)
    if split:
        winners, shares = _vote_by_factor(codes, confidences, space)
    else:
        winners = _majority(codes, confidences, len(classes))
        shares = (codes == winners).mean(axis=0)
    result, label_column = first.copy(), tables[0].label_column
    labels = [str(winner) if tables[0].has_indices else classes[winner] for winner in winners]
    result[label_column] = np.array(labels, dtype=object)
    if CONFIDENCE in first.columns[1:]:
        result[CONFIDENCE] = shares
    for index, name in enumerate(classes):
        if name in first.columns[1:] and name not in (label_column, CONFIDENCE):
            result[name] = (codes == index).mean(axis=0)
    return result


def _check_same_kind(tables: Sequence[PredictionTable], space: LabelSpace | None) -> None:
    """Raise if tables write the same class in different ways, which would count as different classes.

    These are numbers in some tables and names in others, names that differ only by case, and, for classes that are
    numbers themselves, names in some tables and indices in others.
    """
    if space is None:
        is_number = [all(re.fullmatch(r"\d+(\.0*)?", name) for name in table.classes) for table in tables]
        where, kinds = "numbers", is_number
    else:
        are_numbers = all(name.isdecimal() for name in space.names)
        where, kinds = "indices", [are_numbers and table.has_indices for table in tables]
    if any(kinds) and not all(kinds):
        raise DataError(
            f"{tables[kinds.index(True)].path}: has classes as {where}, {tables[kinds.index(False)].path} as names",
            expected=f"names in all tables or {where} in all",
            next_step="pass a model, whose class list maps numbers to names" if space is None else "write names in all",
        )
    spellings: dict[str, tuple[str, Path]] = {}
    for table in tables:
        for name in table.classes:
            other, path = spellings.setdefault(name.lower(), (name, table.path))
            if space is None and other != name:
                raise DataError(
                    f"{table.path}: the class {name!r} differs from {other!r} in {path} only by case",
                    expected="one spelling of each class",
                    next_step="write it alike in all tables",
                )


def _stack_votes(tables: Sequence[PredictionTable], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return all votes as positions in `classes`, (M, N) int64, and all confidences, (M, N) float64.

    Rows are in the order of the first table. The confidences are None unless every table has them.
    """
    position = {name: index for index, name in enumerate(classes)}
    codes, confidences = [], []
    for table in tables:
        rows = table.rows_for(tables[0])
        codes.append(np.array([position[name] for name in table.classes])[table.codes[rows]])
        if table.confidences is not None:
            confidences.append(table.confidences[rows])
    return np.stack(codes), np.stack(confidences) if len(confidences) == len(tables) else None


def _vote_by_factor(
    codes: np.ndarray, confidences: np.ndarray | None, space: LabelSpace | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes made of the majority level of each factor, (N,) int64, and products of vote shares, (N,).

    Args:
        codes: (M, N) int64, positions in the classes of `space`.
        confidences: (M, N) float64, if every table has them.
        space: the classes.

    Raises:
        UsageError: the classes have no factors.
    """
    if space is None or not space.factors:
        raise UsageError("a vote split by factors", expected="classes that are made of factors")
    levels, shares = [], np.ones(codes.shape[1])
    for name in space.factor_names:
        part = space.part([name])
        level_codes = space.projection(part)[codes]
        winners = _majority(level_codes, confidences, len(part))
        shares *= (level_codes == winners).mean(axis=0)
        levels.append(np.array(part.names, dtype=object)[winners])
    return space.encode([SEPARATOR.join(row) for row in zip(*levels, strict=True)]), shares


def _majority(codes: np.ndarray, confidences: np.ndarray | None, classes: int) -> np.ndarray:
    """Return winners (N,) int64 of votes (M, N): most votes, then highest sum of confidences, then earliest table."""
    winners = np.empty(codes.shape[1], dtype=np.int64)
    at_once = max(1, _CELLS_AT_ONCE // classes)
    for begin in range(0, len(winners), at_once):
        block = codes[:, begin : begin + at_once]
        votes = count_votes(block, classes)
        leading = votes == votes.max(axis=1, keepdims=True)
        if confidences is not None:
            sums = count_votes(block, classes, confidences[:, begin : begin + at_once])
            # Rounded, so that the decimal fractions 0.6 + 0.3 and 0.5 + 0.4 tie.
            sums = np.where(leading, np.round(sums, 9), -np.inf)
            leading = sums == sums.max(axis=1, keepdims=True)
        rows = np.arange(block.shape[1])
        earliest = leading[rows, block].argmax(axis=0)
        winners[begin : begin + at_once] = block[earliest, rows]
    return winners
