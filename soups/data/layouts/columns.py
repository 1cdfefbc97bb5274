"""Columns of a table of labels: which holds the ids, the classes and the sets, known by name or by their values.

Also what a cell of the class column may be. What cannot be decided is refused with the flag that decides it."""

import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.core.notes import add_note
from soups.data.layouts.image_files import format_list
from soups.data.layouts.set_folders import set_of_word
from soups.files.tables import ID_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

CLASS_COLUMNS = ("label", "class", "target", "category", "labels", "classes", "class_name", "class_label", "ans")
"""Usual names of the column of true classes, in lower case."""
_SET_COLUMNS = ("split", "set", "subset", "partition", "usage", "dataset")
_GROUP_COLUMNS = tuple(
    f"{name}{end}" for name in ("patient", "subject", "person", "writer") for end in ("", "_id", "id")
)
_ONE, _ZERO = {"1", "1.0", "1.", "true"}, {"0", "0.0", "0.", "false"}
_WHOLE = re.compile(r"(-?\d+)[.,]0+")
_NUMBER = re.compile(r"-?\d*[.,]?\d+(e[+-]?\d+)?", re.IGNORECASE)
_MANY_NUMBERS = 50
_MISSING = {"nan", "none", "null", "<na>", "n/a", "#n/a"}
"""Cells that may stand for a missing label, in lower case."""
_SAMPLE_ROWS = 50


def table_column(table: "pd.DataFrame", name: str, path: Path, source: str, keep: Collection[str] = ()) -> list[str]:
    """Return a column's cells without surrounding spaces.

    Args:
        table: text columns.
        name: the column.
        path: the table's file, for messages.
        source: the flag or layout that requires the column, for messages.
        keep: names whose surrounding spaces belong to them, such as classes after folders.

    Raises:
        DataError: the column does not exist; lists the existing columns.
    """
    if name not in table:
        raise DataError(
            f"{path}: no column {name!r}",
            expected=f"the column that {source} requires",
            found=f"columns {', '.join(map(str, table.columns))}",
            next_step=f"rename a column, or change {source}",
        )
    return [text if text in keep else text.strip() for text in map(str, table[name])]


def find_id_column(
    table: "pd.DataFrame", path: Path, name: str | None, is_image: Callable[[str], object], usual: str = "image"
) -> str:
    """Return the column with the images' ids: the given or usual one, else one of a usual name or with images in it.

    Args:
        table: text columns.
        path: the table's file, for messages.
        name: the column of `--image-column`, if it is set.
        is_image: tells whether an id matches an image.
        usual: the column that is used if it exists.

    Raises:
        DataError: no column or several columns fit.
    """
    if name is not None or usual in table:
        table_column(table, name or usual, path, "--image-column")
        return name or usual
    columns = list(map(str, table.columns))
    named = [column for column in columns if column.lower() in ID_COLUMNS]
    if len(named) != 1:
        sample = table.head(_SAMPLE_ROWS)
        hits = {
            column: sum(bool(is_image(str(cell).strip())) for cell in sample[column]) for column in named or columns
        }
        named = [column for column, count in hits.items() if count * 2 > len(sample)]
    if len(named) != 1:
        step = f"set --image-column {shlex.quote((named or columns)[0])}"
        if len(columns) == 1 and " " in columns[0]:
            step = f"if blanks separate the cells: tr -s ' ' ',' < {shlex.quote(str(path))} > labels.csv"
        raise DataError(
            f"{path}: no column {usual!r}, and {'several columns hold' if named else 'no other column holds'} images",
            expected="one column with paths or names of images, or --image-column NAME",
            found=f"columns {', '.join(named or columns)}",
            next_step=step,
        )
    if is_image(named[0]):
        raise DataError(
            f"{path}: no header",
            expected="names of the columns in the first line, such as image,label",
            found=", ".join(columns),
            next_step="add such a line",
        )
    add_note("read as", f"{path}: the images are those of column {named[0]!r}")
    return named[0]


def find_labels(
    table: "pd.DataFrame", path: Path, name: str | None, others: Collection[str | None], only_tests: bool
) -> list[str] | None:
    """Return the class of each row; None if a table of test images has no column of classes.

    The classes are those of the given column, else of a column of a usual name, else of the only other column; or the
    names of columns if each row has a 1 in one of them and 0 in the others (one-hot).

    Args:
        table: text columns.
        path: the table's file, for messages.
        name: the column of `--label-column`, if it is set.
        others: columns with another meaning.
        only_tests: whether the table lists test images only.

    Raises:
        DataError: no column or several columns fit, or a row has a 1 in no or several columns.
    """
    if name is not None:
        return None if only_tests and name not in table else table_column(table, name, path, "--label-column")
    known = {*_SET_COLUMNS, *_GROUP_COLUMNS, "fold", "folds"}
    columns = [name for name in map(str, table.columns) if name not in others and name.lower() not in known]
    named = sorted(
        (column for column in columns if column.lower() in CLASS_COLUMNS),
        key=lambda column: CLASS_COLUMNS.index(column.lower()),
    )
    one_hot = [name for name in columns if set(table[name].str.strip().str.lower()) <= _ONE | _ZERO]
    if not named and len(one_hot) > 1:
        return _one_hot_labels(table, path, one_hot)
    if not named and only_tests:
        return None
    chosen = _same_classes(table, named)
    if not named:
        # A column without repeated values, such as a text, holds no classes.
        named = [column for column in columns if 1 < table[column].nunique() <= len(table) / 2]
        chosen = named[0] if len(named) == 1 else None
    if chosen is None:
        raise DataError(
            f"{path}: {'several columns may hold the class' if named else 'no column ' + repr('label')}",
            expected=f"a column named {', '.join(CLASS_COLUMNS[:3])}, or --label-column NAME",
            found=f"columns {', '.join(map(str, table.columns))}",
            next_step="set " + ", or ".join(f"--label-column {shlex.quote(name)}" for name in (named or columns)[:3]),
        )
    if chosen != "label":
        add_note("read as", f"{path}: the classes are those of column {chosen!r}")
    elif len(named) > 1:
        add_note("read as", f"{path}: the classes are those of column 'label'; {format_list(named[1:])} has the same")
    return table_column(table, chosen, path, "--label-column")


def _same_classes(table: "pd.DataFrame", columns: Sequence[str]) -> str | None:
    """Return the first of several columns that hold the same classes in other words, names before numbers."""
    if not columns:
        return None
    distinct = table[list(columns)].drop_duplicates()
    if any(distinct[column].duplicated().any() for column in columns):
        return None
    return next((name for name in columns if not distinct[name].str.fullmatch(r"[\d.]+").all()), columns[0])


def _one_hot_labels(table: "pd.DataFrame", path: Path, columns: Sequence[str]) -> list[str]:
    """Return for each row the name of the column that holds 1."""
    ones = table[list(columns)].apply(lambda column: column.str.strip().str.lower()).isin(_ONE).to_numpy()
    counts = ones.sum(axis=1)
    if (counts != 1).any():
        row = int((counts != 1).argmax())
        names = [name for name, one in zip(columns, ones[row], strict=True) if one]
        raise DataError(
            f"{path}, row {row + 2}: {'several classes' if names else 'no class'} among the columns of 0 and 1",
            expected=f"a 1 in one of {format_list(list(columns))}: each image has one class",
            found=f"1 in {', '.join(names)}" if names else "only 0",
            next_step=f"set --label-column {columns[0]} for one of them, or remove such rows",
        )
    add_note("read as", f"{path}: the classes are the columns {format_list(list(columns))}, with a 1 in one of them")
    return [columns[index] for index in ones.argmax(axis=1)]


def find_splits(table: "pd.DataFrame", path: Path, name: str | None) -> list[str] | None:
    """Return the set that each row names: in the given column, else in a column that holds nothing but sets.

    Returns:
        Set names of the samples table, see `canonical_splits`; None if there is no such column.

    Raises:
        DataError: the given column does not exist.
    """
    if name is not None:
        return canonical_splits(table_column(table, name, path, "--split-column"))
    for column in map(str, table.columns):
        sets = {set_of_word(cell) for cell in table[column].str.strip()}
        if column.lower() in _SET_COLUMNS and "train" in sets and len(sets) > 1 and sets <= {"train", "val", "test"}:
            add_note("read as", f"{path}: the sets are those of column {column!r}")
            return canonical_splits(table_column(table, column, path, "--split-column"))
    return None


def canonical_splits(words: Iterable[str]) -> list[str]:
    """Return split names of the samples table for words such as `Validation`.

    If no word means "val", "train" becomes "", so that `split_samples` takes a validation set from it.
    """
    splits = [set_of_word(word) for word in words]
    undecided = "train" if "val" in splits else ""
    return [undecided if split in {"", "train"} else split for split in splits]


def note_unused_groups(table: "pd.DataFrame", path: Path, used: Collection[str | None]) -> None:
    """Warn of a column that names persons and is not used, because images of one person may be in two sets."""
    for column in map(str, table.columns):
        if column.lower() in _GROUP_COLUMNS and column not in used and table[column].duplicated().any():
            text = f"{path}: column {column!r} is not used; --group-column {column} keeps its images in one set"
            add_note("left out", text, warning=True)


def clean_labels(labels: Sequence[str], path: Path, declared: Collection[str]) -> list[str]:
    """Return class names in Unicode's composed form, and whole numbers without decimals if all are written so (`1.0`).

    Args:
        labels: the cells of the class column; "" for no label.
        path: the table's file, for messages.
        declared: classes that the user declared, which are kept as they are.

    Raises:
        DataError: a cell holds several classes.
    """
    labels = [unicodedata.normalize("NFC", label) for label in labels]
    distinct = dict.fromkeys(label for label in labels if label)
    if distinct and all(_WHOLE.fullmatch(label) for label in distinct) and not set(distinct) & set(declared):
        whole = {label: _WHOLE.sub(r"\1", label) for label in distinct}
        first, name = next(iter(whole.items()))
        add_note("read as", f"{path}: the classes are whole numbers: {first} is the class {name}")
        return [whole.get(label, label) for label in labels]
    if (several := _several_classes(list(distinct))) and several not in declared:
        raise DataError(
            f"{path}, row {labels.index(several) + 2}: several classes in one cell",
            expected="one class for each image",
            found=repr(several),
            next_step="keep one of them in each row; if it is one class, name all classes with --class-order",
        )
    if missing := [label for label in distinct if label.lower() in _MISSING and label not in declared]:
        text = f"{format_list([f'{label} ({labels.count(label):,} rows)' for label in missing])} is a class"
        add_note("read as", f"{path}: {text}; if it means that the class is unknown, remove the rows", warning=True)
    numbers = [label for label in distinct if _NUMBER.fullmatch(label)]
    is_quantity = len(distinct) > _MANY_NUMBERS or not all(map(str.isdecimal, distinct))
    if numbers and len(numbers) == len(distinct) and is_quantity:
        text = f"{len(distinct):,} numbers are classes, each by itself ({format_list(numbers, 3)})"
        add_note("read as", f"{path}: {text}; a quantity cannot be learned", warning=True)
    return labels


def _several_classes(labels: Sequence[str]) -> str | None:
    """Return a label that lists several classes; None if there is none.

    A label lists classes if all of its parts are labels themselves, or, with the usual separators of lists, if all
    parts occur in other labels and labels differ in the number or in the order of their parts.
    """
    for separator in ("|", ";", ",", "+", "&", "/", "_", " "):
        parts = {label: [part.strip(" '\"[](){}") for part in label.split(separator)] for label in labels}
        several = {label: found for label, found in parts.items() if len(found) > 1 and all(found)}
        whole = {found[0] for found in parts.values() if len(found) == 1}
        owners, places = defaultdict(set), defaultdict(set)
        for label, found in parts.items():
            for place, part in enumerate(found):
                owners[part].add(label)
                places[part].add(place)
        varied = len({len(found) for found in parts.values()}) > 1
        for label, found in several.items():
            listed = separator in "|;," and all(len(owners[part]) > 1 for part in found)
            moved = varied or any(len(places[part]) > 1 for part in found)
            if set(found) <= whole or (listed and moved):
                return label
    return None
