"""Heat maps over images, sheets of them, and curves of their faithfulness."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from soups.report.figures.grid import Tile, draw_tile
from soups.report.figures.style import BLUE, GREY, VERMILION, escape_math, new_figure, save_png

_COLOURS = "inferno"
"""Colour map of rising lightness, so that it reads the same with every kind of colour vision."""
_LEAST, _MOST = 0.25, 0.6
"""Weight of the map in an overlay where the map is 0 and 1; the rest is the image."""
_GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow.
_MIN_SIDE = 256


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return a map in colour over its image in grey, at least 256 pixels a side: (m·S, m·S, 3) uint8, m an integer.

    Args:
        image: (S, S, 3) uint8, RGB.
        heat: (S, S) float in [0, 1].
    """
    import matplotlib
    from PIL import Image

    times = -(-_MIN_SIDE // image.shape[0])
    side = times * image.shape[0]
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps[_COLOURS](smooth)[..., :3] * 255
    grey = (magnify(image, times) @ np.array(_GREY_OF_RGB))[..., None]
    share = (_LEAST + (_MOST - _LEAST) * smooth)[..., None]
    return np.rint((1 - share) * grey + share * colours).clip(0, 255).astype(np.uint8)


def magnify(image: np.ndarray, times: int) -> np.ndarray:
    """Return the image with each pixel enlarged to `times` × `times` pixels."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


@dataclass(frozen=True)
class SheetRow:
    """A row of a sheet, with the pictures of one image."""

    title: str
    panels: Sequence[Tile | None]
    """None leaves the place empty."""


def draw_sheet(sheet_rows: Sequence[SheetRow], path: Path, heading: str) -> None:
    """Draw rows of pictures with a caption above each, a title left of each row, and the colour bar below.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    columns, rows = max(len(row.panels) for row in sheet_rows), len(sheet_rows)
    figure = new_figure(1.75 * columns + 0.6, 2.1 * rows + 1.2)
    figure.suptitle(escape_math(heading), fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False)
    for places, row in zip(grid, sheet_rows, strict=True):
        places[0].set_ylabel(escape_math(row.title), fontsize=8)
        for axes, panel in zip_longest(places, row.panels):
            if panel is None:
                axes.set_axis_off()
            else:
                draw_tile(axes, panel)
    colours = ScalarMappable(Normalize(0, 1), _COLOURS)
    bar = figure.colorbar(colours, ax=grid, location="bottom", fraction=0.1 / rows, aspect=40, shrink=0.8)
    bar.set_label("evidence for the class, from the least (0) to the most (1) in each map", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    save_png(figure, path)


def draw_faithfulness_curves(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path, heading: str, shares: np.ndarray
) -> None:
    """Draw mean curves of a map beside those of random maps, one panel for each kind.

    Args:
        curves: name of the kind, the map's mean curve (K + 1,), the random maps' (K + 1,), both in [0, 1].
        path: the PNG file.
        heading: above the panels.
        shares: (K + 1,) in [0, 1], the shares of the pixels at the points of the curves.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = new_figure(4.2 * len(curves), 3.2)
    figure.suptitle(escape_math(heading), fontsize=11, x=0.01, ha="left")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (name, own, chance) in zip(panels, curves, strict=True):
        axes.plot(shares, own, color=BLUE, label="the map")
        axes.plot(shares, chance, color=VERMILION, linestyle="--", label="random maps")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("share of the pixels")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(color=GREY, alpha=0.2)
        axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("probability of the class")
    save_png(figure, path)
