"""A grid of images with a caption above and below each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.report.figures.style import BLACK, escape_math, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_COLUMNS = 8


@dataclass(frozen=True)
class Tile:
    """One image with its captions."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB in [0, 255]."""
    above: str
    below: str = ""
    colour_above: str = BLACK
    colour_below: str = BLACK


def draw_grid(tiles: Sequence[Tile], path: Path, heading: str, stacked: int = 1) -> None:
    """Draw images as PNG, row by row, with their captions and a heading of one or more lines.

    Args:
        tiles: the images and their captions.
        path: the PNG file.
        heading: above the grid.
        stacked: number of pictures, one below the other, that each tile's image consists of.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    columns = min(_MAX_COLUMNS, max(4, math.ceil(math.sqrt(len(tiles)))))
    rows = max(1, math.ceil(len(tiles) / columns))
    lines = max((tile.above.count("\n") + tile.below.count("\n") for tile in tiles), default=0)
    figure = new_figure(1.45 * columns + 0.2, (0.4 + 1.45 * stacked + 0.14 * lines) * rows + 0.85)
    figure.suptitle(escape_math(heading), fontsize=11, x=0.01, ha="left")
    for place, tile in enumerate(tiles, start=1):
        draw_tile(figure.add_subplot(rows, columns, place), tile)
    save_png(figure, path)


def draw_tile(axes: "Axes", tile: Tile) -> None:
    """Draw an image with its captions into axes."""
    axes.imshow(tile.image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(escape_math(tile.above), fontsize=8, color=tile.colour_above, pad=3)
    axes.set_xlabel(escape_math(tile.below), fontsize=8, color=tile.colour_below, labelpad=3)
