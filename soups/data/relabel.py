"""The setting `--relabel`: label corrections from a CSV, all applied to the original labels at once."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from soups.core.errors import DataError
from soups.core.labels import SEPARATOR, Factor
from soups.core.notes import add_note
from soups.data.layouts.columns import table_column
from soups.data.layouts.image_files import format_list, lookup_keys
from soups.files.tables import canonical_id, read_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("match", "factor", "from", "to")
ANY, OTHER, WHOLE = "*", "other", "label"
"""Words of the CSV: any level in `from`; the other one of two levels in `to`; the whole label in `factor` (also
the name of its column in the samples table)."""


class _Correction(NamedTuple):
    """One row of the CSV of corrections."""

    number: int
    """Row number as a spreadsheet shows it; the header is row 1."""
    match: str
    factor: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"row {self.number} ({self.match}, {self.factor}: {self.before} → {self.after})"


def relabel(samples: "pd.DataFrame", path: Path, factors: Sequence[Factor], classes: Sequence[str]) -> "pd.DataFrame":
    """Apply the corrections of a CSV to the samples table.

    The CSV has the columns `match` (a group, or a glob on the image's path, with or without file extension and leading
    folders), `factor` (`label` or empty for the whole label), `from` (`*` for any) and `to` (`other` for the other one
    of two levels); further columns are ignored. Every row compares with the original labels, so a swap takes two rows.

    Args:
        samples: text columns `image`, `label`, `group` (filled), `split`, and a column for each factor.
        path: the CSV.
        factors: the label's factors; empty if labels have none.
        classes: all class names.

    Returns:
        A new table with corrected labels and two more columns: `label_before` (the original label) and `corrected_by`
        (row numbers separated by spaces); both "" for unchanged labels.

    Raises:
        DataError: a column is missing; or a row has an unknown factor or level, matches no image, changes nothing, or
            conflicts with another row.
    """
    levels = {factor.name: factor.levels for factor in factors} | {WHOLE: tuple(classes)}
    before = {name: list(samples[name]) for name in levels}
    index = _ImageIndex(list(samples["image"]), list(samples["group"]))
    changes: dict[tuple[int, str], _Correction] = {}
    unmatched = []
    for row in _read_corrections(path, levels):
        labelled = [position for position in index.find(row.match) if before[WHOLE][position]]
        matching = [position for position in labelled if row.before in (ANY, before[row.factor][position])]
        if not matching:
            found = f"{len(labelled)} labelled images match {row.match!r}"
            unmatched.append((row, found + (f", none of them is {row.before}" if labelled else "")))
        # The whole label conflicts with each factor.
        same = list(levels) if row.factor == WHOLE else [row.factor, WHOLE]
        for position in matching:
            if first := next((changes[position, factor] for factor in same if (position, factor) in changes), None):
                image = index.keys[position][0]
                raise DataError(
                    f"{path}, rows {first.number} and {row.number}: both correct {row.factor} of {image}",
                    expected="one row for each image and factor",
                    found=f"{first} and {row}",
                    next_step="remove one of the rows",
                )
            changes[position, row.factor] = row
    if unmatched:
        more = f", as do {len(unmatched) - 1} more rows: " if len(unmatched) > 1 else ""
        more += format_list([f"{row.number} ({row.match})" for row, _ in unmatched[1:]])
        raise DataError(
            f"{path}, {unmatched[0][0]}: matches no image{more}",
            expected="a group or a glob on paths",
            found=unmatched[0][1],
            next_step="correct or remove these rows",
        )
    after = _apply_corrections(before, changes, levels)
    _note_changes(path, before, after)
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for (position, _), row in changes.items():
        numbers[position].append(row.number)
    return samples.assign(
        **after,
        label_before=[old if old != new else "" for old, new in zip(before[WHOLE], after[WHOLE], strict=True)],
        corrected_by=[" ".join(map(str, sorted(numbers[position]))) for position in range(len(samples))],
    )


def _note_changes(path: Path, before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    """Say how many labels were changed from which to which."""
    names = [name for name in before if name != WHOLE] or [WHOLE]
    pairs = Counter(
        pair for name in names for pair in zip(before[name], after[name], strict=True) if pair[0] != pair[1]
    )
    images = sum(old != new for old, new in zip(before[WHOLE], after[WHOLE], strict=True))
    shown = format_list([f"{count:,} {old} → {new}" for (old, new), count in pairs.most_common()], 6)
    add_note("changed", f"--relabel {path}: changed the labels of {images:,} images: {shown}")


def _read_corrections(path: Path, levels: dict[str, tuple[str, ...]]) -> list[_Correction]:
    """Return the rows of the CSV, or raise if a factor or a level is unknown or a row changes nothing."""
    table = read_table(path)
    names = {name for known in levels.values() for name in known}
    cells = [table_column(table, name, path, "--relabel", keep=names) for name in COLUMNS]
    rows = []
    for number, (match, factor, before, after) in enumerate(zip(*cells, strict=True), start=2):
        row = _Correction(number, match, factor or WHOLE, before, after)
        if not match:
            raise DataError(f"{path}, row {number}: `match` is empty", expected="a group, or a glob on paths")
        if row.factor not in levels:
            raise DataError(f"{path}, {row}: unknown factor {row.factor!r}", expected=f"one of {', '.join(levels)}")
        known = levels[row.factor]
        expected = f"one of {', '.join(known)}"
        if before not in (ANY, *known):
            raise DataError(f"{path}, {row}: `from` is {before!r}", expected=f"{expected}, or {ANY}")
        if after not in known and not (after == OTHER and len(known) == 2):
            more = f", or {OTHER}" if len(known) == 2 else f" ({OTHER} needs two levels)" if after == OTHER else ""
            raise DataError(f"{path}, {row}: `to` is {after!r}", expected=expected + more)
        if before == after:
            raise DataError(f"{path}, {row}: changes nothing", next_step="remove the row")
        rows.append(row)
    return rows


def _apply_corrections(
    before: dict[str, list[str]], changes: dict[tuple[int, str], _Correction], levels: dict[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """Return labels and levels after all corrections; an image's label and its levels stay consistent."""
    after = {name: list(values) for name, values in before.items()}
    factors = [name for name in levels if name != WHOLE]
    for (position, factor), row in changes.items():
        level = row.after
        if level == OTHER and OTHER not in levels[factor]:
            level = next(name for name in levels[factor] if name != before[factor][position])
        after[factor][position] = level
        if factor == WHOLE:
            for name, part in zip(factors, level.split(SEPARATOR) if factors else (), strict=True):
                after[name][position] = part
    if factors:
        for position in {position for position, _ in changes}:
            after[WHOLE][position] = SEPARATOR.join(after[name][position] for name in factors)
    return after


class _ImageIndex:
    """Finds the images that a `match` cell refers to."""

    def __init__(self, images: list[str], groups: list[str]) -> None:
        # The file name alone is no key of an image in a folder: `normal.jpg` would match the image of every person.
        self.keys = [[key for key in lookup_keys(image) if "/" in key or "/" not in image] for image in images]
        self.by_name: defaultdict[str, list[int]] = defaultdict(list)
        for position, (keys, group) in enumerate(zip(self.keys, groups, strict=True)):
            for key in {*keys, group}:
                self.by_name[key].append(position)

    def find(self, match: str) -> list[int]:
        """Return positions of images by group, by path or end of the path, else by a glob on the path."""
        if match in self.by_name:
            return self.by_name[match]
        if (name := canonical_id(match)) in self.by_name:
            return self.by_name[name]
        expression = re.compile(translate(name))
        return [position for position, keys in enumerate(self.keys) if any(map(expression.match, keys))]
