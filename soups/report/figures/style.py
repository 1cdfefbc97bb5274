"""Parts of all figures: colours for every kind of colour vision, and PNG files that are reproducible to the byte."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.files.atomic import atomic_write

if TYPE_CHECKING:
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
