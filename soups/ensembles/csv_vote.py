"""Votes over prediction tables: majorities of their classes, and rules on their probabilities; aligned by image id.

Reading of the tables is in `files/prediction_tables.py`; the rules are in `rules.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import SEPARATOR, LabelSpace
from soups.ensembles.rules import VotingRule, count_votes
from soups.files.aligned_tables import align, check_same_kind, read_aligned
from soups.files.answer_columns import CONFIDENCE
from soups.files.prediction_tables import PredictionTable, parse_predictions, read_predictions
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

MAJORITIES = ("hard", "split")
"""Rules that count the classes of tables; all others combine probabilities."""
_CELLS_AT_ONCE = 4_000_000  # Votes (images × classes) per block: 32 MB for each of three arrays.


def vote_tables(paths: Sequence[Path], space: LabelSpace | None = None, *, split: bool = False) -> "pd.DataFrame":
    """Return the majority vote of several prediction tables.

    A table votes for the class in `target`, `label`, `ans` or its only other column; without such a column, for the
    class with the highest probability. Ties go to the class with the highest sum of confidences if every table has a
    column `confidence` or votes by its probabilities. Remaining ties go to the class of the earliest table in `paths`.

    Args:
        paths: one or more CSV files, with rows in any order.
        space: maps class names and indices to class names; None: classes are compared as text.
        split: vote on each factor of `space` separately; the winning levels form the class.

    Returns:
        The first table's columns, rows and order, with the winning classes (as indices if the first table has indices).
        Its column `confidence`, if any, holds the winner's share of votes, and columns of classes hold each class's
        share; other columns do not change. With `split`, the winner's share is the product over the factors.

    Raises:
        UsageError: no table is passed, or `split` is set for classes without factors.
        DataError: a table is not readable, has no rows, has other ids than the first, or has an answer that is not a
            class; names file and id.
    """
    if not paths:
        raise UsageError("a vote over no tables", expected="at least one CSV file")
    frame = read_table(paths[0])
    first = parse_predictions(frame, paths[0], space)
    tables = [first, *(replace(read_aligned(path, first, space), frame=None) for path in paths[1:])]
    check_same_kind(tables, space)
    occurring = chain(first.class_columns.values(), *(table.classes for table in tables))
    classes = list(dict.fromkeys(occurring if space is None else space.names))
    codes, confidences = _stack_votes(tables, classes)
    if split:
        winners, shares = _vote_by_factor(codes, confidences, space)
    else:
        winners = _majority(codes, confidences, len(classes))
        shares = (codes == winners).mean(axis=0)
    columns = _class_columns(frame, first, classes, space)
    place = {name: index for index, name in enumerate(classes)}  # Nobody may have voted for a class with a column.
    by_column = {column: (codes == place.get(name, -1)).mean(axis=0) for column, name in columns.items()}
    return _fill(frame, first, classes, winners, shares, by_column)


def combine_tables(
    paths: Sequence[Path], rule: VotingRule, weights: np.ndarray | None = None, space: LabelSpace | None = None
) -> "pd.DataFrame":
    """Return the combination of the probabilities of several prediction tables.

    Args:
        paths: one or more CSV files with a column for the probability of each class, or with the probability of the
            second of two classes; rows and columns in any order.
        rule: how to combine.
        weights: (M,), for rules that take weights.
        space: maps names of columns to class names; None: the classes are the first table's.

    Returns:
        The first table's columns, rows and order. Columns of classes hold the combined probabilities, the column of
        answers the most probable class, `confidence` its probability; other columns do not change.

    Raises:
        UsageError: no table is passed, or the weights are not valid.
        DataError: a table is not readable, has no probabilities or those of other classes, or has other ids.
    """
    if not paths:
        raise UsageError("a vote over no tables", expected="at least one CSV file")
    frame = read_table(paths[0])
    first = parse_predictions(frame, paths[0], space)
    classes, members = list(space.names if space is not None else first.probability_classes), []
    for path in paths:
        table = first if path == paths[0] else align(read_predictions(path, space, first.ids), first)
        check_same_kind([first, table], space)
        members.append(table.probabilities(classes))
    scores = rule(np.stack(members), weights, space or LabelSpace(tuple(classes)))
    columns = _class_columns(frame, first, classes, space)
    by_column = {column: scores[:, classes.index(name)] for column, name in columns.items()}
    return _fill(frame, first, classes, scores.argmax(axis=1), scores.max(axis=1), by_column)


def _class_columns(
    frame: "pd.DataFrame", first: PredictionTable, classes: Sequence[str], space: LabelSpace | None
) -> dict[str, str]:
    """Return column → class of the first table's columns that take a number for a class.

    Raises:
        DataError: columns are named after classes, but it is not clear which others are, too.
    """
    if first.is_binary:
        return {str(first.label_column): first.classes[1]}
    taken = {frame.columns[0], first.label_column, CONFIDENCE}
    named = {name: name for name in frame.columns if name in classes and name not in taken}
    if named and not first.class_columns and space is None:
        raise DataError(
            f"{first.path}: columns are named after classes, but hold no probabilities that sum to 1",
            expected="a column with the probability of each class, or no such columns",
            found=f"the columns {', '.join(frame.columns)}",
            next_step=f"remove {', '.join(named)}, or name the run with these classes: --name NAME",
        )
    return first.class_columns or named


def _fill(
    frame: "pd.DataFrame",
    first: PredictionTable,
    classes: Sequence[str],
    winners: np.ndarray,
    confidences: np.ndarray,
    by_column: Mapping[str, np.ndarray],
) -> "pd.DataFrame":
    """Return the first table with the result of a vote in its columns of answers, confidences and classes."""
    result = frame.copy()
    if first.label_column is not None and not first.is_binary:
        labels = [str(winner) if first.has_indices else classes[winner] for winner in winners]
        result[first.label_column] = np.array(labels, dtype=object)
    if CONFIDENCE in frame.columns:
        result[CONFIDENCE] = confidences
    return result.assign(**by_column)


def _stack_votes(tables: Sequence[PredictionTable], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return all votes as positions in `classes`, (M, N) int64, and all confidences, (M, N) float64.

    The confidences are None unless every table has them.
    """
    position = {name: index for index, name in enumerate(classes)}
    codes = [np.array([position[name] for name in table.classes])[table.codes] for table in tables]
    confidences = [table.confidences for table in tables if table.confidences is not None]
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
