"""Majority votes over prediction tables, aligned by image id.

Reading of the tables is in `files/prediction_tables.py`; votes over probabilities are in `rules.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import SEPARATOR, LabelSpace
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
    if space is None:
        _check_same_kind(tables)
    votes = [_align(table, tables[0]) for table in tables]
    result = _count_votes_by_factor(votes, space) if split else _count_votes(votes)
    return _fill_table(first, tables[0].label_column, result, space)


@dataclass(frozen=True)
class _TableVotes:
    """One table's answers, with its rows in the order of the first table."""

    codes: np.ndarray
    """(N,) int64, positions in `classes`."""
    classes: list[str]
    """Class of each code."""
    confidences: np.ndarray | None
    """(N,) float64."""


def _align(table: PredictionTable, first: PredictionTable) -> _TableVotes:
    rows = table.rows_for(first)
    confidences = None if table.confidences is None else table.confidences[rows]
    return _TableVotes(table.codes[rows], table.classes, confidences)


def _check_same_kind(tables: Sequence[PredictionTable]) -> None:
    """Raise if some tables have numbers and others names: `3` and `three` would count as two classes."""
    all_numbers = [all(name.isdecimal() for name in table.classes) for table in tables]
    if any(all_numbers) and not all(all_numbers):
        raise DataError(
            f"{tables[all_numbers.index(True)].path}: has classes as numbers,"
            f" {tables[all_numbers.index(False)].path} as names",
            expected="names in all tables or numbers in all",
            next_step="pass a model, whose class list maps numbers to names",
        )


@dataclass(frozen=True)
class _VoteResult:
    """The result of a vote."""

    classes: list[str]
    winners: np.ndarray
    """(N,) int64, positions in `classes`."""
    codes: np.ndarray
    """(M, N) int64, all votes as positions in `classes`."""
    shares: np.ndarray
    """(N,) float64 in [0, 1], the winner's share of the votes."""


def _count_votes(votes: Sequence[_TableVotes]) -> _VoteResult:
    """Return the majority of classes."""
    classes = list(dict.fromkeys(chain(*(table.classes for table in votes))))
    codes = _stack_codes(votes, classes)
    winners = _majority(codes, _stack_confidences(votes), len(classes))
    return _VoteResult(classes, winners, codes, (codes == winners).mean(axis=0))


def _count_votes_by_factor(votes: Sequence[_TableVotes], space: LabelSpace | None) -> _VoteResult:
    """Return the classes made of the majority level of each factor."""
    if space is None or not space.factors:
        raise UsageError("a vote split by factors", expected="classes that are made of factors")
    codes, confidences = _stack_codes(votes, space.names), _stack_confidences(votes)
    levels, shares = [], np.ones(codes.shape[1])
    for name in space.factor_names:
        part = space.part([name])
        level_codes = space.projection(part)[codes]
        winners = _majority(level_codes, confidences, len(part))
        shares *= (level_codes == winners).mean(axis=0)
        levels.append(np.array(part.names, dtype=object)[winners])
    names = [SEPARATOR.join(row) for row in zip(*levels, strict=True)]
    return _VoteResult(list(space.names), space.encode(names), codes, shares)


def _stack_codes(votes: Sequence[_TableVotes], classes: Sequence[str]) -> np.ndarray:
    """Return all votes as positions in `classes`, (M, N) int64."""
    position = {name: index for index, name in enumerate(classes)}
    return np.stack([np.array([position[name] for name in table.classes])[table.codes] for table in votes])


def _stack_confidences(votes: Sequence[_TableVotes]) -> np.ndarray | None:
    """Return all confidences, (M, N) float64; None unless every table has them."""
    known = [table.confidences for table in votes if table.confidences is not None]
    return np.stack(known) if len(known) == len(votes) else None


def _majority(codes: np.ndarray, confidences: np.ndarray | None, classes: int) -> np.ndarray:
    """Return the winner of each image, (N,) int64, from votes (M, N), in blocks of images."""
    winners = np.empty(codes.shape[1], dtype=np.int64)
    at_once = max(1, _CELLS_AT_ONCE // classes)
    for begin in range(0, len(winners), at_once):
        block = slice(begin, begin + at_once)
        block_confidences = None if confidences is None else confidences[:, block]
        winners[block] = _block_majority(codes[:, block], block_confidences, classes)
    return winners


def _block_majority(codes: np.ndarray, confidences: np.ndarray | None, classes: int) -> np.ndarray:
    """Return winners (N,) of codes (M, N): most votes, then highest sum of confidences, then earliest table."""
    rows = np.arange(codes.shape[1])
    cells = (rows * classes + codes).ravel()
    shape = len(rows), classes
    votes = np.bincount(cells, minlength=len(rows) * classes).reshape(shape)
    leading = votes == votes.max(axis=1, keepdims=True)
    if confidences is not None:
        sums = np.bincount(cells, confidences.ravel(), minlength=len(rows) * classes).reshape(shape)
        # Rounded, so that the decimal fractions 0.6 + 0.3 and 0.5 + 0.4 tie.
        sums = np.where(leading, np.round(sums, 9), -np.inf)
        leading = sums == sums.max(axis=1, keepdims=True)
    earliest = leading[rows, codes].argmax(axis=0)
    return codes[earliest, rows]


def _fill_table(
    first: "pd.DataFrame",
    label_column: str,
    vote: _VoteResult,
    space: LabelSpace | None,
) -> "pd.DataFrame":
    """Return a copy of the first table with the vote in its columns of classes, confidences and shares."""
    result = first.copy()
    names = np.array(vote.classes, dtype=object)[vote.winners]
    if space is not None and not set(first[label_column].str.strip()) <= set(space.names):
        names = np.array([str(index) for index in space.encode(names)], dtype=object)
    result[label_column] = names
    if CONFIDENCE in first.columns[1:]:
        result[CONFIDENCE] = vote.shares
    position = {name: index for index, name in enumerate(vote.classes)}
    known = position.keys() | set(space.names if space is not None else ())
    for column in first.columns[1:]:
        if column in known and column not in (label_column, CONFIDENCE):
            result[column] = (vote.codes == position.get(column, -1)).mean(axis=0)
    return result
