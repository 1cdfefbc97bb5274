"""The block that a command prints before it trains: data, classes, start, device and fine-tunes, in 80 columns."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from soups.report.pool import HYPERPARAMETERS, fold_rows, hyperparameter_cells
from soups.report.tables import MISSING, align_columns

_WIDTH = 80
_LABEL = 13
"""Width of the labels on the left, with the indentation."""
_CLASSES, _FINETUNES, _SETS = 12, 24, 5
"""Rows of the table of classes and of fine-tunes, and columns of the table of classes; longer ones are shortened."""
_LONGEST_CLASS = 30


Lines = Sequence[tuple[str, str]]
"""Label and text of each line."""


@dataclass(frozen=True)
class Announcement:
    """What a command is going to do."""

    title: str
    data: Lines = ()
    """Above the table of classes; lines of one label follow each other."""
    training: Lines = ()
    """Below that table."""
    warnings: Lines = ()
    """At the end."""
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Class → set → number of images."""
    sets: Mapping[str, int] = field(default_factory=dict)
    """Set → number of images, those without a label included."""
    finetunes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a fine-tune → its hyperparameters, see `pool.hyperparameters_of`."""


def format_announcement(what: Announcement) -> str:
    """Return the block as text, without a line break at its end."""
    table = _indented("images", align_columns(_class_cells(what.classes, what.sets)))
    parts = [what.title, *_format_lines(what.data), table, *_format_lines(what.training)]
    parts += [_format_finetunes(what.finetunes)] if what.finetunes else []
    return "\n".join([*parts, *_format_lines(what.warnings)])


def _format_lines(lines: Lines) -> list[str]:
    labels = ["", *(label for label, _ in lines)]
    return [_labelled("" if label == labels[number] else label, text) for number, (label, text) in enumerate(lines)]


def _labelled(label: str, text: str) -> str:
    indent = " " * _LABEL
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=f"  {label}".ljust(_LABEL),
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _indented(label: str, table: str) -> str:
    lines = textwrap.indent(table, " " * _LABEL)
    return f"  {label}".ljust(_LABEL) + lines[_LABEL:]


def _class_cells(classes: Mapping[str, Mapping[str, int]], sets: Mapping[str, int]) -> list[list[str]]:
    """Return the table of classes: all of them in their order, or the largest and the smallest of many."""
    columns = {name: [name] for name in sets}
    if len(columns) > _SETS:
        shifts = list(columns)[_SETS - 1 :]
        columns = dict(list(columns.items())[: _SETS - 1]) | {f"{len(shifts)} other sets": shifts}
    order = list(classes)
    if len(order) > _CLASSES:
        order.sort(key=lambda name: -sum(classes[name].values()))

    def count(counts: Mapping[str, int], names: Sequence[str]) -> str:
        return f"{sum(counts.get(name, 0) for name in names):,}" if any(name in counts for name in names) else MISSING

    rows = [[_short(name), *(count(classes[name], names) for names in columns.values())] for name in order]
    total = [f"{len(classes):,} classes", *(count(sets, names) for names in columns.values())]
    return [["class", *columns], *fold_rows(rows, _CLASSES), total]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_CLASS else f"{name[: _LONGEST_CLASS - 1]}…"


def _format_finetunes(finetunes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the hyperparameters of each fine-tune; one line if all have the same."""
    names, rows = list(finetunes), [hyperparameter_cells(values) for values in finetunes.values()]
    if all(row == rows[0] for row in rows):
        values = ", ".join(f"{name} {cell}" for name, cell in zip(HYPERPARAMETERS, rows[0], strict=True))
        count = names[0] if len(names) == 1 else f"{len(names)}, {names[0]} to {names[-1]}"
        return _labelled("fine-tunes", f"{count}: {values}")
    cells = [[name, *row] for name, row in zip(names, rows, strict=True)]
    return _indented("fine-tunes", align_columns([["", *HYPERPARAMETERS], *fold_rows(cells, _FINETUNES)]))
