"""The images that are predicted wrong, worst first, with what they were taken for and how surely."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from soups.core.labels import SEPARATOR, LabelSpace
from soups.report.answers import LabelledPredictions
from soups.report.figures.grid import Tile, draw_grid
from soups.report.figures.overlays import magnified
from soups.report.figures.style import GREEN, VERMILION, short_names

_NAME_LENGTH = 15


def wrong_rows(answers: LabelledPredictions) -> np.ndarray:
    """Positions (K,) int64 of the wrong predictions, highest confidence first, equal ones in their own order."""
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
    told: str = "",
) -> int:
    """Draw a grid of the wrong images as PNG; where classes are made of factors, what is wrong of each.

    Args:
        image: row → (H, W, 3) uint8, RGB in [0, 255] (for example `images.__getitem__`); asked for the shown rows only.
        answers: N predictions and the truth.
        path: the PNG file.
        title: above the grid.
        most: how many images are shown at most.
        maps: row → pictures of its maps (m·H, m·W, 3) uint8, m a whole number, equally many for each shown row; they
            are drawn below the image.
        told: what the maps are, for the heading.

    Returns:
        How many images are wrong.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    wrong = wrong_rows(answers)
    shown = wrong[:most]
    cut = f", {len(shown)} shown" if len(shown) < len(wrong) else ""
    heading = f"{title}\n{len(wrong)} of {len(answers.labels)} images are wrong{cut}"
    known = " and its confidence" if answers.confidences is not None else ""
    heading += f"\nabove: truth · below: prediction{known}" if len(shown) else ""
    heading += f"\n{told}" if maps and len(shown) else ""
    stacked = 1 + max((len(pictures) for pictures in (maps or {}).values()), default=0)
    short = short_names(answers.space.names, _NAME_LENGTH)
    pictures = [_stacked(image(int(row)), (maps or {}).get(int(row), ())) for row in shown]
    tiles = [_tile(picture, answers, int(row), short) for picture, row in zip(pictures, shown, strict=True)]
    draw_grid(tiles, path, heading, stacked)
    return len(wrong)


def _stacked(image: np.ndarray, below: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures one below the other, the image as large as its maps."""
    if not below:
        return image
    return np.concatenate([magnified(image, below[0].shape[0] // image.shape[0]), *below])


def _tile(image: np.ndarray, answers: LabelledPredictions, row: int, names: Sequence[str]) -> Tile:
    truth, prediction = int(answers.labels[row]), int(answers.predictions[row])
    sure = "" if answers.confidences is None else f", {100 * answers.confidences[row]:.0f}%"
    if len(answers.space.factors) < 2:
        return Tile(image, names[truth], f"{names[prediction]}{sure}", GREEN, VERMILION)
    above = "\n".join(answers.space.names[truth].split(SEPARATOR))
    return Tile(image, above, f"{_differences(answers.space, truth, prediction)}{sure}", GREEN, VERMILION)


def _differences(space: LabelSpace, truth: int, prediction: int) -> str:
    """The levels that are wrong, one below the other."""
    pairs = zip(space.names[truth].split(SEPARATOR), space.names[prediction].split(SEPARATOR), strict=True)
    return "\n".join(predicted for true, predicted in pairs if true != predicted)
