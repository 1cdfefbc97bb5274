"""Corrections of labels: rows of a table, all of which look at the original labels at once."""

import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from soups.core.errors import DataError
from soups.core.labels import SEPARATOR, Factor
from soups.data.layouts.folders import lookup_keys
from soups.data.layouts.tables import table_column
from soups.files.atomic import read_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("match", "factor", "from", "to")
ANY, OTHER, WHOLE = "*", "other", "label"
"""Any level before; of two levels, the one that it was not; the factor's name that means the whole label."""


class _Correction(NamedTuple):
    """A correction."""

    number: int
    """As a spreadsheet counts, the header being row 1."""
    match: str
    factor: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"row {self.number} ({self.match}, {self.factor}: {self.before} → {self.after})"


def relabel(samples: "pd.DataFrame", path: Path, factors: Sequence[Factor], classes: Sequence[str]) -> "pd.DataFrame":
    """The table with corrected labels, and what they were.

    The CSV has the columns `match` (a group, or a glob on the image's path, with or without ending and with or without
    the first folders), `factor` (`label`, or empty, for the whole label), `from` (`*` for any) and `to` (`other` for
    the other one of two); more columns may stand beside them. Each row is asked of the labels as they were, so a swap
    is two rows.

    Args:
        samples: text columns `image`, `label`, `group` (filled), `split`, and a column for each factor.
        path: the CSV.
        factors: of the label; none where labels are plain.
        classes: all class names.

    Returns:
        A new table with two more columns: `label_before` and `corrected_by` (the numbers of the rows); "" where nothing
        changed.

    Raises:
        DataError: the table lacks a column; a row names an unknown factor or level, fits no image, changes nothing, or
            disagrees with another row about an image; names the row.
    """
    levels = {factor.name: factor.levels for factor in factors} | {WHOLE: tuple(classes)}
    before = {name: list(samples["label" if name == WHOLE else name]) for name in levels}
    finder = _ImageIndex(list(samples["image"]), list(samples["group"]))
    changes: dict[tuple[int, str], _Correction] = {}
    for row in [_validate_correction(row, levels, path) for row in _read_corrections(path)]:
        hits = [place for place in finder.places(row.match) if before[WHOLE][place]]
        fitting = [place for place in hits if row.before in (ANY, before[row.factor][place])]
        if not fitting:
            found = f"{len(hits)} labelled images fit {row.match!r}"
            found += f", none of them is {row.before}" if hits else ""
            raise DataError(f"{path}, {row}: hits no image", expected="a group or a glob on paths", found=found)
        for place in fitting:
            _check_conflict(changes, place, row, list(levels), finder.keys[place][0], path)
            changes[place, row.factor] = row
    after = _apply_corrections(before, changes, levels)
    columns = {("label" if name == WHOLE else name): values for name, values in after.items()}
    pairs = zip(before[WHOLE], after[WHOLE], strict=True)
    return samples.assign(
        **columns,
        label_before=[old if old != new else "" for old, new in pairs],
        corrected_by=_format_row_numbers(changes, len(samples)),
    )


def _read_corrections(path: Path) -> list[_Correction]:
    table = read_table(path)
    cells = [table_column(table, name, path, "the corrections' header") for name in COLUMNS]
    return [
        _Correction(number, match, factor or WHOLE, before, after)
        for number, (match, factor, before, after) in enumerate(zip(*cells, strict=True), start=2)
    ]


def _validate_correction(row: _Correction, levels: dict[str, tuple[str, ...]], path: Path) -> _Correction:
    """The row, whose every word means something."""
    if not row.match:
        raise DataError(f"{path}, row {row.number}: `match` is empty", expected="a group, or a glob on paths")
    if row.factor not in levels:
        raise DataError(f"{path}, {row}: unknown factor {row.factor!r}", expected=f"one of {', '.join(levels)}")
    known = levels[row.factor]
    if row.before not in (ANY, *known):
        raise DataError(f"{path}, {row}: `from` is {row.before!r}", expected=f"one of {', '.join(known)}, or {ANY}")
    if row.after not in known and not (row.after == OTHER and len(known) == 2):
        more = f", or {OTHER}" if len(known) == 2 else f" ({OTHER} is for two of them)" if row.after == OTHER else ""
        raise DataError(f"{path}, {row}: `to` is {row.after!r}", expected=f"one of {', '.join(known)}{more}")
    if row.before == row.after:
        raise DataError(f"{path}, {row}: changes nothing", next_step="remove the row")
    return row


def _check_conflict(
    changes: dict[tuple[int, str], _Correction],
    place: int,
    row: _Correction,
    factors: list[str],
    image: str,
    path: Path,
) -> None:
    """Raise where another row has something to say of the same image and factor already."""
    for factor in factors if row.factor == WHOLE else (row.factor, WHOLE):
        first = changes.get((place, factor))
        if first is not None:
            raise DataError(
                f"{path}, rows {first.number} and {row.number}: both correct {row.factor} of {image}",
                expected="one row for each image and factor",
                found=f"{first} and {row}",
                next_step="remove one of the rows",
            )


def _apply_corrections(
    before: dict[str, list[str]], changes: dict[tuple[int, str], _Correction], levels: dict[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """The labels and levels after all changes, all of one image in step."""
    after = {name: list(values) for name, values in before.items()}
    factors = [name for name in levels if name != WHOLE]
    for (place, factor), row in changes.items():
        level = row.after
        if level == OTHER and OTHER not in levels[factor]:
            level = next(each for each in levels[factor] if each != before[factor][place])
        after[factor][place] = level
        if factor == WHOLE:
            for name, part in zip(factors, level.split(SEPARATOR) if factors else (), strict=True):
                after[name][place] = part
    if factors:
        for place in {place for place, _ in changes}:
            after[WHOLE][place] = SEPARATOR.join(after[name][place] for name in factors)
    return after


def _format_row_numbers(changes: dict[tuple[int, str], _Correction], images: int) -> list[str]:
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for (place, _), row in changes.items():
        numbers[place].append(row.number)
    return [" ".join(map(str, sorted(numbers[place]))) if place in numbers else "" for place in range(images)]


class _ImageIndex:
    """Which images a `match` means."""

    def __init__(self, images: list[str], groups: list[str]) -> None:
        # Not the bare file name: where everyone has a `normal.jpg`, it would be everyone's.
        self.keys = [[key for key in lookup_keys(image) if "/" in key or "/" not in image] for image in images]
        self.by_name: defaultdict[str, list[int]] = defaultdict(list)
        for place, (keys, group) in enumerate(zip(self.keys, groups, strict=True)):
            for key in {*keys, group}:
                self.by_name[key].append(place)

    def places(self, match: str) -> list[int]:
        """Positions of the images whose group, path or end of the path it is, or whose path fits it as a glob."""
        if match in self.by_name:
            return self.by_name[match]
        expression = re.compile(translate(match))
        return [place for place, keys in enumerate(self.keys) if any(map(expression.match, keys))]
