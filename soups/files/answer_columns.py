"""Columns of a prediction table: which holds the ids, which the answers, and which the probability of each class.

They are known by name, by their values, or by agreement with other tables; else the table is refused."""

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.core.notes import add_note
from soups.files.tables import ID_COLUMNS, IMAGE_ENDING, LABEL_COLUMNS, canonical_id

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE, GROUP = "confidence", "group"
_NAMELESS = ("", "Unnamed: 0")
_OTHERS = (CONFIDENCE, GROUP, "usage", "fold", "split", *map(str.lower, _NAMELESS))
"""Columns that hold no answers, in lower case."""
_SAMPLE = 200
"""Rows by which columns are recognised."""
_SHOWN = 5
_MOST_ROUNDING = 0.1
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?\s*|\s*[-+]?(nan|inf|infinity)\s*", re.A | re.I)


def find_id_column(table: "pd.DataFrame", path: Path, like: Collection[str] = ()) -> str:
    """Return the column of image ids: by a usual name, else by images or the other tables' ids in it.

    Where neither tells, it is the first column, if no column besides it has a different value in each row.

    Args:
        table: text cells.
        path: the table, for messages.
        like: ids of another table of the same images; empty: unknown.

    Raises:
        DataError: no column can be told to hold the ids.
    """
    columns, sample = list(map(str, table.columns)), table.head(_SAMPLE)
    named = [name for name in columns if name.lower() in ID_COLUMNS]
    if len(named) == 1:
        return named[0]
    texts = [name for name in columns if not all(map(_NUMBER.fullmatch, sample[name]))]
    known = {canonical_id(name) for name in like}
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: bool(known) and all(canonical_id(str(cell)) in known for cell in sample[name]),
        lambda name: all(IMAGE_ENDING.search(str(cell).strip()) for cell in sample[name]),
        lambda name: name in texts,
    )
    for test in tests[: len(tests) if named else 2]:
        if len(hits := [name for name in named or columns if test(name)]) == 1:
            return hits[0]
    if named:
        return named[0]
    first = columns[0]
    are_fractions = any("." in cell or "," in cell for cell in sample[first])
    is_index = first not in texts and (first in _NAMELESS or are_fractions)
    is_repeated = not table[first].is_unique and any(table[name].is_unique for name in texts)
    if first.lower() in LABEL_COLUMNS or is_index or is_repeated:
        raise DataError(
            f"{path}: which column holds the image's id is not clear",
            expected=f"a column with one of the names {', '.join(ID_COLUMNS[:_SHOWN])}, …",
            found=f"the columns {', '.join(map(repr, columns))}",
            next_step="name the column of ids: image",
        )
    return first


def find_label_column(
    table: "pd.DataFrame", path: Path, space: LabelSpace | None, no_answers: Collection[str] = ()
) -> str:
    """Return the column with the class: a usual name, or else the only column without another meaning.

    Columns with another meaning are the first (ids), `confidence`, `group`, `Usage`, `fold`, `split`, those of
    `no_answers` and those named after a class of `space`.

    Raises:
        DataError: none or several columns remain.
    """
    columns = [str(column) for column in table.columns[1:]]
    classes = {*(space.names if space is not None else ()), *no_answers}
    candidates = [name for name in columns if name.lower() in LABEL_COLUMNS and name not in classes]
    candidates = candidates or [name for name in columns if name in LABEL_COLUMNS and name not in no_answers]
    if len(candidates) > 1 and all(table[name].equals(table[candidates[0]]) for name in candidates):
        candidates = candidates[:1]
    candidates = candidates or [name for name in columns if name.lower() not in _OTHERS and name not in classes]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: which column holds the class is not clear",
            expected=f"one of the columns {', '.join(LABEL_COLUMNS)}, or one besides the id and {CONFIDENCE!r}",
            found=f"the columns {', '.join(columns)}",
            next_step="keep only the column of classes, or rename the others",
        )
    return candidates[0]


def find_class_columns(table: "pd.DataFrame", path: Path, space: LabelSpace | None) -> dict[str, str]:
    """Return column → class of the columns with the probability of each class; empty if there are none.

    With a space these are its class names in any case, or its indices. Without one they are all columns of numbers
    up to 100 without another meaning, if there are two or more; beside answers only if their rows sum to 1 or 100.

    Raises:
        DataError: some classes of the space have a column and others do not, and there is no column of answers.
    """
    columns = [str(column) for column in table.columns[1:]]
    has_answers = any(name.lower() in LABEL_COLUMNS for name in columns)
    if space is not None:
        found = _columns_of_space(columns, space, path)
        missing = [name for name in space.names if name not in found.values()]
        if found and missing and not has_answers and len(found) > 1:
            raise DataError(
                f"{path}: no column for {len(missing)} of the classes: {', '.join(missing[:_SHOWN])}",
                expected=f"columns {', '.join(space.names)}",
                found=f"the columns {', '.join(columns)}",
            )
        return {} if missing else found
    sample = table.head(_SAMPLE)
    found = {
        name: _compose(name)
        for name in columns
        if name.lower() not in (*_OTHERS, *LABEL_COLUMNS)
        and any(map(_NUMBER.fullmatch, sample[name]))
        and np.nanmax(_parse(sample[name])) <= 100 + 100 * _MOST_ROUNDING
    }
    if has_answers and found:
        sums = np.nansum([_parse(sample[name]) for name in found], axis=0)
        near = np.minimum(np.abs(sums - 1), np.abs(sums / 100 - 1)) < _MOST_ROUNDING
        if near.mean() < 0.5:
            return {}
    return found if len(found) > 1 else {}


def _columns_of_space(columns: Sequence[str], space: LabelSpace, path: Path) -> dict[str, str]:
    """Return column → class for columns named after classes, whatever the case, or after their indices."""
    exact = {_compose(name): name for name in space.names}
    folded = {name.casefold(): of for name, of in exact.items()}
    if len(folded) < len(exact):
        folded = {}
    texts = {name: _compose(name) for name in columns}
    found = {name: of for name, text in texts.items() if (of := exact.get(text, folded.get(text.casefold())))}
    if not found and set(columns) >= set(map(str, range(len(space)))):
        add_note("read as", f"{path}: columns 0 to {len(space) - 1} are the classes {', '.join(space.names)}")
        return {str(index): name for index, name in enumerate(space.names)}
    return found


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _parse(cells: "Sequence[str] | pd.Series[str]") -> np.ndarray:
    """Return numbers, (N,) float64, with points or commas for the decimals; NaN where a cell is no number."""
    texts = [cell.replace(",", ".") if _NUMBER.fullmatch(cell) else "nan" for cell in cells]
    return np.array(texts, dtype=object).astype(np.float64)


def read_numbers(cells: "pd.Series[str]", path: Path, column: str, what: str) -> np.ndarray:
    """Return a column of finite numbers, (N,) float64; decimal commas are said.

    Args:
        cells: N text cells.
        path: the table, for messages.
        column: name of the column, for messages.
        what: what a cell should be, for messages.

    Raises:
        DataError: a cell is not a finite number; names the line.
    """
    values = _parse(cells)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"{path}, line {row + 2}: the {column} is not a number",
            expected=f"{what} in every row",
            found=repr(cells.iloc[row]),
        )
    if cells.str.contains(",", regex=False).any():
        add_note("read as", f"{path}: numbers have decimal commas")
    return values


def read_probabilities(table: "pd.DataFrame", columns: Sequence[str], path: Path) -> np.ndarray:
    """Return the probabilities in some columns, (N, C) float64, rows summing to one.

    Rows that sum to 100 are per cent. Rounded probabilities are divided by their sum; both are said.

    Raises:
        DataError: a cell is not a finite number, or a row is not one of probabilities that sum to one; names the line.
    """
    values = np.column_stack(
        [read_numbers(table[name], path, f"probability of {name!r}", "a number") for name in columns]
    )
    sums = values.sum(axis=1)
    if (values >= 0).all() and (np.abs(sums - 100) < 100 * _MOST_ROUNDING).all():
        add_note("read as", f"{path}: probabilities are in per cent; divided by 100")
        values, sums = values / 100, sums / 100
    tolerance = _rounding(values) + 1e-9
    wrong = np.flatnonzero((values < 0).any(axis=1) | (np.abs(sums - 1) > tolerance))
    if len(wrong):
        row = int(wrong[0])
        shown = ", ".join(f"{value:g}" for value in values[row, :_SHOWN]) + ", …" * (len(columns) > _SHOWN)
        are_logits = bool((values < 0).any() or (values > 1).any())
        raise DataError(
            f"{path}, line {row + 2}: no probabilities that sum to 1",
            expected=f"numbers from 0 to 1 in {', '.join(columns[:_SHOWN])}{', …' * (len(columns) > _SHOWN)}",
            found=f"{shown}, which sum to {sums[row]:g}; {len(wrong)} such rows",
            next_step="logits: write their softmax" if are_logits else "write the probabilities of exclusive classes",
        )
    if (np.abs(sums - 1) > 1e-3).any():
        add_note(
            "read as",
            f"{path}: rounded rows sum to {sums.min():.3f} to {sums.max():.3f}; each is divided by its sum",
        )
    return values / sums[:, None]


def _rounding(values: np.ndarray) -> float:
    """Return how far the sum of a row may be from one, given to how many decimals the numbers are rounded."""
    sample = values[:_SAMPLE]
    for decimals in range(1, 5):
        if np.allclose(sample, np.round(sample, decimals), rtol=0, atol=1e-9):
            return min(max(1e-3, 0.5 * values.shape[1] * 10.0**-decimals), _MOST_ROUNDING)
    return 1e-3
