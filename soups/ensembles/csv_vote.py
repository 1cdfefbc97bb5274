"""Hard voting over prediction tables, whatever wrote them: aligned by image id, never by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import SEPARATOR, LabelSpace
from soups.files.atomic import read_table
from soups.files.prediction_tables import CONFIDENCE, find_label_column, read_confidences

if TYPE_CHECKING:
    import pandas as pd

_CELLS_AT_ONCE = 4_000_000  # Votes held in memory at a time: 32 MB for each of three tables.


@dataclass(frozen=True)
class _TableVotes:
    """One table, its rows in the order of the first table's ids."""

    codes: np.ndarray
    """(N,) int64, positions in `answers`."""
    answers: list[str]
    """The distinct answers: class names, or their own text where there is no label space."""
    confidences: np.ndarray | None
    """(N,) float64."""


def vote_tables(
    paths: Sequence[Path], space: LabelSpace | None = None, answer: str | None = None, *, split: bool = False
) -> "pd.DataFrame":
    """The majority of several prediction tables.

    Each table has the image id in its first column and the class in the column `answer`. Ties go to the highest
    confidence summed over the tables, where every one has a column `confidence`; else, and where that ties too, to the
    class that the earliest listed table gave.

    Args:
        paths: CSV files, any number from one up, rows in any order.
        space: reads classes given as names or as indices; None: answers are compared as text.
        answer: the column of the classes; None: `target`, `label` or `ans`, or the only one besides id and confidence.
        split: vote on each factor of the space by itself; the winners together are the class.

    Returns:
        The first table's columns, rows and order with the winning classes (as indices where the first table has
        indices). Its `confidence` column, if any, holds the share of votes of the winner, and columns named after
        classes hold each class's share; any other column is left as the first table has it. With `split`, the share of
        the winner is the product of its levels' shares.

    Raises:
        UsageError: no table, or a split of classes that are not made of factors.
        DataError: a table is not readable, has no rows, lacks an id, has one twice or one that the first lacks, or an
            answer is no class; names file and id.
    """
    if not paths:
        raise UsageError("a vote over no tables", expected="at least one CSV file")
    first = _read(paths[0])
    ids = _first_index(first, paths[0])
    ballots = [_ballot(paths[0], first, np.arange(len(first)), space, answer)]
    for path in paths[1:]:
        table = _read(path)
        ballots.append(_ballot(path, table, _rows_in_order(path, table, ids, paths[0]), space, answer))
    if space is None:
        _check_same_kind(ballots, paths)
    outcome = _count_votes(ballots) if not split else _count_votes_by_factor(ballots, space)
    return _fill_table(first, find_label_column(first, paths[0], answer, space), outcome, space)


def _read(path: Path) -> "pd.DataFrame":
    table = read_table(path)
    if table.empty or table.shape[1] < 2:
        raise DataError(
            f"{path}: no predictions",
            expected="a header and rows, the image id in the first column and the class in another",
            found=f"{len(table)} rows with the columns {', '.join(map(str, table.columns))}",
        )
    return table


def _first_index(table: "pd.DataFrame", path: Path) -> "pd.Index":
    """The first table's ids, each once."""
    import pandas as pd

    index = pd.Index(table.iloc[:, 0])
    if not index.is_unique:
        _refuse_doubled(path, index, int(np.flatnonzero(index.duplicated())[0]))
    return index


def _refuse_doubled(path: Path, ids: "pd.Index", row: int) -> NoReturn:
    raise DataError(
        f"{path}, line {row + 2}: the id {ids[row]!r} appears twice",
        expected="one row for each image",
        next_step="remove one of the two rows",
    )


def _rows_in_order(path: Path, table: "pd.DataFrame", first: "pd.Index", first_path: Path) -> np.ndarray:
    """The rows (N,) int64 of `table` in the order of the first table's ids."""
    import pandas as pd

    ids = pd.Index(table.iloc[:, 0])
    if np.array_equal(ids.to_numpy(), first.to_numpy()):
        return np.arange(len(ids))
    places = first.get_indexer(ids)
    foreign = np.flatnonzero(places < 0)
    if len(foreign):
        found = f"the id {ids[foreign[0]]!r}, which {first_path} lacks"
        raise DataError(f"{path}, line {foreign[0] + 2}: {found}", expected="the same images in all tables")
    if (np.bincount(places, minlength=len(first)) > 1).any():
        _refuse_doubled(path, ids, int(np.flatnonzero(ids.duplicated())[0]))
    rows = np.full(len(first), -1)
    rows[places] = np.arange(len(ids))
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise DataError(f"{path}: lacks the id {first[missing[0]]!r}", expected=f"the images of {first_path}")
    return rows


def _ballot(
    path: Path, table: "pd.DataFrame", rows: np.ndarray, space: LabelSpace | None, answer: str | None
) -> _TableVotes:
    """One table's answers and confidences, its rows taken in the order `rows`."""
    import pandas as pd

    codes, distinct = pd.factorize(table[find_label_column(table, path, answer, space)])
    empty = np.flatnonzero(np.array([not str(text).strip() for text in distinct])[codes])
    if len(empty):
        raise DataError(
            f"{path}, line {empty[0] + 2}: no class for the id {table.iloc[int(empty[0]), 0]!r}",
            expected="a class for every image",
            next_step="the file may have been cut off: write it again",
        )
    try:
        answers = [str(text).strip() for text in distinct] if space is None else space.read_column(distinct)
    except DataError as error:
        raise DataError(
            f"{path}: {error.problem}", expected=error.expected, found=error.found, next_step=error.next_step
        ) from error
    return _TableVotes(codes[rows], answers, _in_order(read_confidences(table, path), rows))


def _in_order(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _check_same_kind(ballots: Sequence[_TableVotes], paths: Sequence[Path]) -> None:
    """Without a label space, `3` in one file and `three` in another would be counted as two classes."""
    all_numbers = [all(answer.isdecimal() for answer in ballot.answers) for ballot in ballots]
    if any(all_numbers) and not all(all_numbers):
        raise DataError(
            f"{paths[all_numbers.index(True)]}: gives classes as numbers, {paths[all_numbers.index(False)]} as names",
            expected="names in all tables or numbers in all",
            next_step="give a model, whose class list tells which number is which name",
        )


@dataclass(frozen=True)
class _VoteResult:
    """How the tables voted."""

    classes: list[str]
    winners: np.ndarray
    """(N,) int64, positions in `classes`."""
    codes: np.ndarray
    """(M, N) int64, all answers as positions in `classes`."""
    shares: np.ndarray
    """(N,) float64 in [0, 1], how far the tables agree on the winner."""


def _count_votes(ballots: Sequence[_TableVotes]) -> _VoteResult:
    """Count the votes."""
    classes = list(dict.fromkeys(chain(*(ballot.answers for ballot in ballots))))
    codes = _stack_codes(ballots, classes)
    winners = _majority(codes, _stack_confidences(ballots), len(classes))
    return _VoteResult(classes, winners, codes, (codes == winners).mean(axis=0))


def _count_votes_by_factor(ballots: Sequence[_TableVotes], space: LabelSpace | None) -> _VoteResult:
    """Count the votes on each factor, and put the winners together."""
    if space is None or not space.factors:
        raise UsageError("a vote split by factors", expected="classes that are made of factors")
    codes, confidences = _stack_codes(ballots, space.names), _stack_confidences(ballots)
    levels, shares = [], np.ones(codes.shape[1])
    for name in space.factor_names:
        part = space.part([name])
        votes = space.projection(part)[codes]
        winners = _majority(votes, confidences, len(part))
        shares *= (votes == winners).mean(axis=0)
        levels.append(np.array(part.names, dtype=object)[winners])
    names = [SEPARATOR.join(each) for each in zip(*levels, strict=True)]
    return _VoteResult(list(space.names), space.encode(names), codes, shares)


def _stack_codes(ballots: Sequence[_TableVotes], classes: Sequence[str]) -> np.ndarray:
    """(M, N) int64, all answers as positions among the classes."""
    position = {name: index for index, name in enumerate(classes)}
    return np.stack([np.array([position[name] for name in ballot.answers])[ballot.codes] for ballot in ballots])


def _stack_confidences(ballots: Sequence[_TableVotes]) -> np.ndarray | None:
    """(M, N) float64 where every table has confidences."""
    known = [ballot.confidences for ballot in ballots if ballot.confidences is not None]
    return np.stack(known) if len(known) == len(ballots) else None


def _majority(codes: np.ndarray, confidences: np.ndarray | None, classes: int) -> np.ndarray:
    """The winner of each image: (M, N) to (N,) int64, a block of images at a time."""
    winners = np.empty(codes.shape[1], dtype=np.int64)
    at_once = max(1, _CELLS_AT_ONCE // classes)
    for begin in range(0, len(winners), at_once):
        block = slice(begin, begin + at_once)
        own = None if confidences is None else confidences[:, block]
        winners[block] = _block_majority(codes[:, block], own, classes)
    return winners


def _block_majority(codes: np.ndarray, confidences: np.ndarray | None, classes: int) -> np.ndarray:
    """Most votes, then highest summed confidence, then earliest table: codes and confidences (M, N) to (N,)."""
    rows = np.arange(codes.shape[1])
    cells = (rows * classes + codes).ravel()
    shape = len(rows), classes
    votes = np.bincount(cells, minlength=len(rows) * classes).reshape(shape)
    leading = votes == votes.max(axis=1, keepdims=True)
    if confidences is not None:
        sums = np.bincount(cells, confidences.ravel(), minlength=len(rows) * classes).reshape(shape)
        # Rounded, because 0.6 + 0.3 and 0.5 + 0.4 are a tie to whoever wrote them.
        sums = np.where(leading, np.round(sums, 9), -np.inf)
        leading = sums == sums.max(axis=1, keepdims=True)
    earliest = leading[rows, codes].argmax(axis=0)
    return codes[earliest, rows]


def _fill_table(
    first: "pd.DataFrame",
    answer: str,
    outcome: _VoteResult,
    space: LabelSpace | None,
) -> "pd.DataFrame":
    """The first table with the vote's outcome in its columns."""
    result = first.copy()
    names = np.array(outcome.classes, dtype=object)[outcome.winners]
    if space is not None and not set(first[answer].str.strip()) <= set(space.names):
        names = np.array([str(index) for index in space.encode(names)], dtype=object)
    result[answer] = names
    if CONFIDENCE in first.columns[1:]:
        result[CONFIDENCE] = outcome.shares
    position = {name: index for index, name in enumerate(outcome.classes)}
    known = position.keys() | set(space.names if space is not None else ())
    for column in first.columns[1:]:
        if column in known and column not in (answer, CONFIDENCE):
            result[column] = (outcome.codes == position.get(column, -1)).mean(axis=0)
    return result
