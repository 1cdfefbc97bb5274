"""A grid of images with a line above and a line below each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soups.report.figures.style import BLACK, new_figure, plain, save

_MOST_COLUMNS = 8


@dataclass(frozen=True)
class Tile:
    """One image of the grid."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB in [0, 255]."""
    above: str
    below: str = ""
    colour_above: str = BLACK
    colour_below: str = BLACK


def draw_grid(tiles: Sequence[Tile], path: Path, heading: str, stacked: int = 1) -> None:
    """Draw the images as PNG, in the order of reading, with their lines and a heading of one line or several.

    Args:
        tiles: the images and their lines.
        path: the PNG file.
        heading: above the grid.
        stacked: how many pictures, one below the other, each tile's image is made of.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    columns = min(_MOST_COLUMNS, max(4, math.ceil(math.sqrt(len(tiles)))))
    rows = max(1, math.ceil(len(tiles) / columns))
    lines = max((tile.above.count("\n") + tile.below.count("\n") for tile in tiles), default=0)
    figure = new_figure(1.45 * columns + 0.2, (0.4 + 1.45 * stacked + 0.14 * lines) * rows + 0.85)
    figure.suptitle(plain(heading), fontsize=11, x=0.01, ha="left")
    for place, tile in enumerate(tiles, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(tile.image, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(plain(tile.above), fontsize=8, color=tile.colour_above, pad=3)
        axes.set_xlabel(plain(tile.below), fontsize=8, color=tile.colour_below, labelpad=3)
    save(figure, path)
