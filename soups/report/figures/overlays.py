"""Maps laid over images, sheets of them, and the curves that tell how faithful they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from soups.report.figures.style import BLACK, BLUE, GREY, VERMILION, new_figure, plain, save

_COLOURS = "inferno"
"""Bright where there is evidence: of rising lightness, so that it reads the same with every kind of colour vision."""
_LEAST, _MOST = 0.25, 0.6
"""How much of an overlay is the map, where it is 0 and where it is 1; the rest is the image."""
_GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow does it.
_SMALLEST = 256


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map in colour over its image in grey, at least 256 pixels a side: (m·S, m·S, 3) uint8, m a whole number.

    Args:
        image: (S, S, 3) uint8, RGB.
        heat: (S, S) float in [0, 1].
    """
    import matplotlib
    from PIL import Image

    times = -(-_SMALLEST // image.shape[0])
    side = times * image.shape[0]
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps[_COLOURS](smooth)[..., :3] * 255
    grey = (magnified(image, times) @ np.array(_GREY_OF_RGB))[..., None]
    share = (_LEAST + (_MOST - _LEAST) * smooth)[..., None]
    return np.rint((1 - share) * grey + share * colours).clip(0, 255).astype(np.uint8)


def magnified(image: np.ndarray, times: int) -> np.ndarray:
    """An image with each pixel as a square of `times` × `times`."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet."""

    picture: np.ndarray
    """(H, W, 3) uint8, RGB."""
    above: str
    colour: str = BLACK


@dataclass(frozen=True)
class Strip:
    """A row of a sheet: what belongs to one image."""

    title: str
    panels: Sequence[Panel | None]
    """None leaves the place empty."""


def draw_sheet(strips: Sequence[Strip], path: Path, heading: str) -> None:
    """Draw rows of pictures with lines above each, a title at the left of each row, and the colours' meaning below.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    columns, rows = max(len(strip.panels) for strip in strips), len(strips)
    figure = new_figure(1.75 * columns + 0.6, 2.1 * rows + 1.2)
    figure.suptitle(plain(heading), fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, strip in zip(grid, strips, strict=True):
        row[0].set_ylabel(plain(strip.title), fontsize=8)
        for axes, panel in zip_longest(row, strip.panels):
            if panel is None:
                axes.set_axis_off()
                continue
            axes.imshow(panel.picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(plain(panel.above), fontsize=8, color=panel.colour, pad=3)
    colours = ScalarMappable(Normalize(0, 1), _COLOURS)
    bar = figure.colorbar(colours, ax=grid, location="bottom", fraction=0.1 / rows, aspect=40, shrink=0.8)
    bar.set_label("evidence for the class, from the least (0) to the most (1) in each map", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    save(figure, path)


def draw_curves(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path, heading: str, shares: np.ndarray
) -> None:
    """Draw mean curves of a map beside those of random maps, one panel for each kind.

    Args:
        curves: name of the kind, the map's mean curve (K + 1,), the random maps' (K + 1,), both in [0, 1].
        path: the PNG file.
        heading: above the panels.
        shares: (K + 1,) in [0, 1], the shares of the pixels that the curves stand at.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = new_figure(4.2 * len(curves), 3.2)
    figure.suptitle(plain(heading), fontsize=11, x=0.01, ha="left")
    for axes, (name, own, chance) in zip(
        figure.subplots(1, len(curves), sharey=True, squeeze=False)[0], curves, strict=True
    ):
        axes.plot(shares, own, color=BLUE, label="the map")
        axes.plot(shares, chance, color=VERMILION, linestyle="--", label="random maps")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("share of the pixels")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(color=GREY, alpha=0.2)
        axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("probability of the class")
    save(figure, path)
