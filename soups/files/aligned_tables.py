"""Several prediction tables of the same images: reading in one order of rows, and agreement on the classes.

One table is read in `prediction_tables.py`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.prediction_tables import WHOLE, PredictionTable, are_fractions, read_classes, read_predictions
from soups.files.tables import canonical_id

_SHOWN = 5
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")


def read_all(paths: Iterable[Path], space: LabelSpace | None = None) -> list[PredictionTable]:
    """Read tables of the same images, in the order of rows of the first one.

    Raises:
        DataError: as `read_predictions`; the tables have other images, or write the same class in different ways.
    """
    tables: list[PredictionTable] = []
    for path in paths:
        first = tables[0] if tables else None
        tables.append(read_predictions(path, space) if first is None else read_aligned(path, first, space))
    check_same_kind(tables, space)
    return tables


def read_aligned(path: Path, first: PredictionTable, space: LabelSpace | None = None) -> PredictionTable:
    """Read a table of the same images as another one, in the order of its rows.

    Raises:
        DataError: as `read_predictions`; or the tables have other images.
    """
    plain = _read_plain(path, first, space)
    return align(read_predictions(path, space, first.ids), first) if plain is None else plain


def align(table: PredictionTable, other: PredictionTable) -> PredictionTable:
    """Return a table with the ids and the order of rows of another one.

    Raises:
        DataError: as `find_rows`.
    """
    if table.ids is other.ids:
        return table
    rows = find_rows(table, other)
    return replace(
        table,
        ids=other.ids,
        codes=table.codes[rows],
        groups=[table.groups[row] for row in rows] if table.groups is not None else None,
        confidences=table.confidences[rows] if table.confidences is not None else None,
        order=rows if table.order is None else table.order[rows],
    )


def find_rows(table: PredictionTable, other: PredictionTable) -> np.ndarray:
    """Return for each row of another table the row of a table with the same image, (M,) int64.

    Raises:
        DataError: one of the tables has images that are not in the other.
    """
    if table.ids == other.ids:
        return np.arange(len(table.ids))
    own, others = _matching_keys(table.ids, other.ids)
    row_of = {name: row for row, name in enumerate(own)}
    missing = [name for name in others if name not in row_of]
    extra = sorted(set(own) - set(others))
    for names, verb in ((missing, "lacks"), (extra, "has also")):
        if names:
            shown = ", ".join(names[:_SHOWN]) + f", … and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
            raise DataError(
                f"{table.path}: {verb} {len(names)} image{'s' * (len(names) > 1)}: {shown}",
                expected=f"the {len(other.ids)} images of {other.path}",
                next_step=_hint_of_zeros(table.ids, other.ids) or "use tables of the same images",
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
    return _ENDING.sub("", canonical_id(name))


def _hint_of_zeros(first: Sequence[str], second: Sequence[str]) -> str | None:
    """Return a next step if the ids of one table are those of the other without leading zeros."""
    if {_canonical_id(name).lstrip("0") for name in first} == {_canonical_id(name).lstrip("0") for name in second}:
        return "one of the tables has lost the leading zeros of its ids, as spreadsheets do: write it again as text"
    return None


def _read_plain(path: Path, first: PredictionTable, space: LabelSpace | None) -> PredictionTable | None:
    """Return a table of ids and classes in the order of another one's rows, if it has its columns and is plain."""
    columns = [] if first.frame is None else [str(name) for name in first.frame.columns]
    if len(columns) != 2 or "" in columns or first.is_binary or columns[1] != first.label_column or not path.is_file():
        return None
    found = first.known_ids.read(path.read_bytes(), columns)
    if found is None or "" in map(str.strip, found[1]) or are_fractions(set(found[1]), space):
        return None  # `read_predictions` says what is wrong.
    (codes, cells) = found
    _, classes, has_indices = read_classes(cells, cells, path, space)
    return PredictionTable(path, first.ids, codes, classes, first.label_column, None, None, has_indices)


def check_same_kind(tables: Sequence[PredictionTable], space: LabelSpace | None) -> None:
    """Raise if tables write the same class in different ways, which would count as different classes.

    These are numbers in some tables and names in others, names that differ only by case, and, for classes that are
    numbers themselves, names in some tables and indices in others.
    """
    if space is None:
        is_number = [all(map(WHOLE.fullmatch, table.classes)) for table in tables]
        where, kinds = "numbers", is_number
    else:
        are_numbers = all(name.isdecimal() for name in space.names)
        where, kinds = "indices", [are_numbers and table.has_indices for table in tables]
    if any(kinds) and not all(kinds):
        raise DataError(
            f"{tables[kinds.index(True)].path}: has classes as {where}, {tables[kinds.index(False)].path} as names",
            expected=f"names in all tables or {where} in all",
            next_step="name the run with these classes: --name NAME" if space is None else "write names in all",
        )
    spellings: dict[str, tuple[str, Path]] = {}
    for table in tables if space is None else ():
        for name in (*table.classes, *table.class_columns.values()):
            other, path = spellings.setdefault(_spelling(name), (name, table.path))
            if other != name:
                raise DataError(
                    f"{table.path}: the class {name!r} is {other!r} in {path}, which differs only by case or zeros",
                    expected="one spelling of each class",
                    next_step="write it alike in all tables",
                )


def _spelling(name: str) -> str:
    return str(int(name)) if name.isdecimal() else name.casefold()
