"""The images that a model gets wrong, worst first, with what it took them for and how sure it was."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from soups.metrics import correct
from soups.report.pictures import GREEN, VERMILION, new_figure, plain, save, short_names

_NAME_LENGTH = 15


def wrong_rows(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions (K,) int64 of the wrong predictions, highest confidence first, equal ones in their own order.

    Args:
        probabilities: (N, C) float64.
        labels: (N,) int64.

    Raises:
        DataError: the two do not fit each other.
    """
    rows = np.flatnonzero(~correct(probabilities, labels))
    return rows[np.argsort(-probabilities[rows].max(axis=1), kind="stable")]


def draw_wrong_images(
    image: Callable[[int], np.ndarray],
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    path: Path,
    *,
    title: str = "Wrong images, the surest first",
    most: int = 40,
) -> int:
    """Draw a grid of the wrong images as PNG.

    Args:
        image: row → (H, W, 3) uint8, RGB in [0, 255] (for example `images.__getitem__`); asked for the shown rows only.
        probabilities: (N, C) float64.
        labels: (N,) int64, the truth.
        names: C class names.
        path: the PNG file.
        title: above the grid.
        most: how many images are shown at most.

    Returns:
        How many images are wrong.

    Raises:
        DataError: probabilities and labels do not fit each other.
        EnvironmentFailure: the file cannot be written.
    """
    wrong = wrong_rows(probabilities, labels)
    shown = wrong[:most]
    columns = min(8, max(4, math.ceil(math.sqrt(len(shown)))))
    lines = max(1, math.ceil(len(shown) / columns))
    figure = new_figure(1.45 * columns + 0.2, 1.85 * lines + 0.85)
    cut = f", {len(shown)} shown" if len(shown) < len(wrong) else ""
    heading = f"{title}\n{len(wrong)} of {len(labels)} images are wrong{cut}"
    heading += "\nabove: truth · below: prediction and its confidence" if len(shown) else ""
    figure.suptitle(plain(heading), fontsize=11, x=0.01, ha="left")
    short = short_names(names, _NAME_LENGTH)
    for place, row in enumerate(shown, start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.imshow(image(int(row)), interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        prediction = int(probabilities[row].argmax())
        sure = f"{100 * probabilities[row, prediction]:.0f}%"
        axes.set_title(plain(short[int(labels[row])]), fontsize=8, color=GREEN, pad=3)
        axes.set_xlabel(f"{plain(short[prediction])}, {sure}", fontsize=8, color=VERMILION, labelpad=3)
    save(figure, path)
    return len(wrong)
