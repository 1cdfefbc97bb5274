"""Figure of the wrongly predicted images, by falling confidence, with their labels and predictions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from soups.core.labels import SEPARATOR
from soups.report.answers import LabelledPredictions
from soups.report.figures.grid import Tile, draw_grid
from soups.report.figures.overlays import magnify
from soups.report.figures.style import GREEN, VERMILION, shorten_names

_MAX_NAME = 15


def wrong_rows(answers: LabelledPredictions) -> np.ndarray:
    """Return positions (K,) int64 of the wrong predictions, highest confidence first, equal ones in their own order."""
    rows = np.flatnonzero(answers.labels != answers.predictions)
    if answers.confidences is None:
        return rows
    return rows[np.argsort(-answers.confidences[rows], kind="stable")]


def draw_wrong_images(
    image: Callable[[int], np.ndarray],
    answers: LabelledPredictions,
    path: Path,
    *,
    title: str = "Wrong images, the surest first",
    most: int = 40,
    maps: Mapping[int, Sequence[np.ndarray]] | None = None,
    maps_caption: str = "",
) -> int:
    """Draw a grid of the wrong images as PNG; if classes are made of factors, the captions show the wrong factors.

    Args:
        image: row → (H, W, 3) uint8, RGB in [0, 255] (for example `images.__getitem__`); called for the shown rows
            only.
        answers: N predictions and the labels.
        path: the PNG file.
        title: above the grid.
        most: maximum number of images to show.
        maps: row → pictures of its maps (m·H, m·W, 3) uint8, m an integer, equally many for each shown row; they are
            drawn below the image.
        maps_caption: description of the maps, for the heading.

    Returns:
        Number of wrong images.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    wrong = wrong_rows(answers)
    shown = wrong[:most]
    shown_text = f", {len(shown)} shown" if len(shown) < len(wrong) else ""
    heading = f"{title}\n{len(wrong)} of {len(answers.labels)} images are wrong{shown_text}"
    known = " and its confidence" if answers.confidences is not None else ""
    heading += f"\nabove: truth · below: prediction{known}" if len(shown) else ""
    heading += f"\n{maps_caption}" if maps and len(shown) else ""
    stacked = 1 + max((len(pictures) for pictures in (maps or {}).values()), default=0)
    short = shorten_names(answers.space.names, _MAX_NAME)
    tiles = [_tile(image(int(row)), answers, int(row), short, (maps or {}).get(int(row), ())) for row in shown]
    draw_grid(tiles, path, heading, stacked)
    return len(wrong)


def _tile(
    image: np.ndarray, answers: LabelledPredictions, row: int, names: Sequence[str], maps: Sequence[np.ndarray]
) -> Tile:
    """Return the image, as large as its maps, with the maps below it, and captions: what is wrong, and how surely."""
    if maps:
        image = np.concatenate([magnify(image, maps[0].shape[0] // image.shape[0]), *maps])
    truth, prediction = int(answers.labels[row]), int(answers.predictions[row])
    above, below = names[truth], names[prediction]
    if len(answers.space.factors) > 1:
        true_levels, predicted_levels = (answers.space.names[label].split(SEPARATOR) for label in (truth, prediction))
        above = "\n".join(true_levels)
        below = "\n".join(level for true, level in zip(true_levels, predicted_levels, strict=True) if level != true)
    if answers.confidences is not None:
        below += f", {100 * answers.confidences[row]:.0f}%"
    return Tile(image, above, below, GREEN, VERMILION)
