"""The images that a model gets wrong, worst first, with what it took them for and how sure it was."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from soups.metrics import correct
from soups.report.grid import Tile, draw_grid
from soups.report.pictures import GREEN, VERMILION, short_names

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
    cut = f", {len(shown)} shown" if len(shown) < len(wrong) else ""
    heading = f"{title}\n{len(wrong)} of {len(labels)} images are wrong{cut}"
    heading += "\nabove: truth · below: prediction and its confidence" if len(shown) else ""
    short = short_names(names, _NAME_LENGTH)
    draw_grid([_tile(image(int(row)), probabilities[row], int(labels[row]), short) for row in shown], path, heading)
    return len(wrong)


def _tile(image: np.ndarray, probabilities: np.ndarray, label: int, names: Sequence[str]) -> Tile:
    prediction = int(probabilities.argmax())
    sure = f"{100 * probabilities[prediction]:.0f}%"
    return Tile(image, names[label], f"{names[prediction]}, {sure}", GREEN, VERMILION)
