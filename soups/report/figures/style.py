"""Parts of all figures: colours for every kind of colour vision, and PNG files that are reproducible to the byte."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design": distinct with every kind of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#7F7F7F"

DOTS_PER_INCH = 150


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of `width` × `height` inches, drawn by Agg without a display or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def format_axes(axes: "Axes", title: str, x: str, y: str = "", sizes: tuple[float, float] = (13, 11)) -> None:
    """Set title and labels of `sizes` points, put a light grid behind the data, and remove the box around it."""
    axes.set_title(escape_math(title), fontsize=sizes[0])
    axes.set_xlabel(escape_math(x), fontsize=sizes[1])
    axes.set_ylabel(escape_math(y), fontsize=sizes[1])
    axes.grid(True, color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(axes: "Axes") -> None:
    """Add the legend below the axes, so that it hides no point."""
    axes.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False)


def save_png(figure: "Figure", path: Path) -> None:
    """Write a figure atomically as PNG, without the version and date that would change its bytes.

    Raises:
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    with atomic_write(path) as temporary, warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes; a warning for each would not help.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)


def escape_math(text: str) -> str:
    """Return text that matplotlib shows literally: a class called `$a$` is not a formula."""
    return text.replace("$", r"\$")


def shorten(text: str, length: int) -> str:
    """Return text of at most `length` characters, cut in the middle."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def shorten_names(names: Sequence[str], length: int) -> list[str]:
    """Return all names cut to `length` characters; names that would become equal get their number in front."""
    short = [shorten(name, length) for name in names]
    times = Counter(short)
    return [
        text if times[text] == 1 else f"{number} {shorten(name, max(3, length - len(str(number)) - 1))}"
        for number, (name, text) in enumerate(zip(names, short, strict=True))
    ]
