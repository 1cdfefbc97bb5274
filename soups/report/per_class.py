"""Scores by class: precision, recall and F1, and the confusion matrix as text and as figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soups.core.errors import DataError
from soups.report.figures.style import escape_math, new_figure, save_png, shorten_names
from soups.report.tables import align_columns, format_percent

_MAX_TEXT_CLASSES = 20
_MAX_HEADER = 8
_MAX_FIGURE_CLASSES = 40
_MAX_NAME = 24


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix (C, C) int64; a row is a true class, a column a predicted one.

    Args:
        labels: (N,) int64 in [0, C).
        predictions: (N,) int64 in [0, C).
        classes: C.

    Raises:
        DataError: labels and predictions have different lengths.
    """
    if len(labels) != len(predictions):
        raise DataError("predictions of other images", expected=f"{len(labels)} images", found=str(len(predictions)))
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def class_scores(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the scores of each class, in the order of `names`.

    Args:
        matrix: (C, C) int64, a row for each true class.
        names: C class names.

    Returns:
        Dicts with `class`, `precision`, `recall`, `f1` (in [0, 1]; None if the denominator is 0: precision of a class
        that is never predicted, recall of one that does not occur) and `support` (images of the class).
    """
    hits, support, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        {
            "class": name,
            "precision": int(hit) / int(guesses) if guesses else None,
            "recall": int(hit) / int(images) if images else None,
            "f1": 2 * int(hit) / int(guesses + images) if guesses + images else None,
            "support": int(images),
        }
        for name, hit, images, guesses in zip(names, hits, support, predicted, strict=True)
    ]


def class_table(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Return precision, recall and F1 in per cent and support of each class, with their means, as aligned text."""
    rows = class_scores(matrix, names)
    keys = ("precision", "recall", "f1")
    cells = [["class", "precision %", "recall %", "F1 %", "images"]]
    cells += [[row["class"], *(format_percent(row[key]) for key in keys), str(row["support"])] for row in rows]
    known = {key: [row[key] for row in rows if row[key] is not None] for key in keys}
    means = [format_percent(float(np.mean(known[key])) if known[key] else None) for key in keys]
    cells.append(["mean of classes", *means, str(int(matrix.sum()))])
    return align_columns(cells)


def _select_classes(matrix: np.ndarray, most: int) -> tuple[np.ndarray, str]:
    """Return the classes to show (all, or those with most errors) in their own order, and a note on the rest."""
    classes = len(matrix)
    if classes <= most:
        return np.arange(classes), ""
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
    shown = np.sort(np.argsort(-wrong, kind="stable")[:most])
    inside = matrix[np.ix_(shown, shown)]
    seen, errors = inside.sum() - np.trace(inside), matrix.sum() - np.trace(matrix)
    return shown, f"the {most} of {classes} classes with most errors; {seen} of {errors} errors are among them"


def confusion_text(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Return the confusion matrix as aligned text: a row is a true class, a column a predicted one, `·` means none.

    Of more than 20 classes only those with most errors are shown, with a note. If names are long, the numbers of the
    classes head the columns.
    """
    shown, note = _select_classes(matrix, _MAX_TEXT_CLASSES)
    labels = [names[index] for index in shown]
    heads = labels
    if max(map(len, labels)) > _MAX_HEADER:
        heads, labels = [str(index) for index in shown], [f"{index} {names[index]}" for index in shown]
    cells = [["truth ↓  predicted →", *heads]]
    for label, row in zip(labels, matrix[np.ix_(shown, shown)], strict=True):
        cells.append([label, *(str(count) if count else "·" for count in row)])
    return align_columns(cells, [f"({note})"] if note else [])


def draw_confusion(matrix: np.ndarray, names: Sequence[str], path: Path, *, title: str) -> None:
    """Draw the confusion matrix as PNG: the colour is the share of the true class, the numbers are images.

    Of more than 40 classes only those with most errors are shown, with a note.

    Args:
        matrix: (C, C) int64, a row for each true class (see `confusion_matrix`).
        names: C class names.
        path: the PNG file.
        title: above the figure.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    shown, note = _select_classes(matrix, _MAX_FIGURE_CLASSES)
    short = shorten_names(names, _MAX_NAME)
    labels = [escape_math(short[index]) for index in shown]
    part = matrix[np.ix_(shown, shown)]
    shares = part / np.maximum(matrix.sum(axis=1)[shown], 1)[:, None]
    side = min(max(4.5, 2.2 + 0.42 * len(shown)), 14)
    figure = new_figure(side + 1.2, side + 0.4)
    axes = figure.add_subplot()
    picture = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    size = 9 if len(shown) <= 12 else 8 if len(shown) <= 25 else 6.5
    vertical = max(map(len, labels)) * 0.09 > 0.75 * side / len(shown)  # Inches: a letter's width, a cell's width.
    axes.set_xticks(range(len(shown)), labels, rotation=90 if vertical else 0, fontsize=size + 0.5)
    axes.set_yticks(range(len(shown)), labels, fontsize=size + 0.5)
    axes.set_xlabel("prediction", fontsize=11)
    axes.set_ylabel("truth", fontsize=11)
    axes.set_title(escape_math(title) + (f"\n{note}" if note else ""), fontsize=12 if note else 13)
    for row, column in zip(*np.nonzero(part), strict=True):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = axes.text(column, row, str(part[row, column]), ha="center", va="center", color=colour, fontsize=size)
        text.set_in_layout(False)  # It lies inside the axes, and measuring 1,600 texts takes seconds.
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("share of the true class, %", fontsize=10)
    save_png(figure, path)
