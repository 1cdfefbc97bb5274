"""What all pictures share: colours for every eye, and files with the same bytes for the same content."""

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
    """An empty figure, `width` × `height` inches, drawn by Agg; no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all, without the version and date that would change its bytes.

    Raises:
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    with atomic_write(path) as temporary, warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; a page of warnings would not mend it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: a class called `$a$` is no formula."""
    return text.replace("$", r"\$")


def shortened(text: str, length: int) -> str:
    """Text of at most `length` characters, cut in the middle."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def short_names(names: Sequence[str], length: int) -> list[str]:
    """All names cut to `length` characters; where two would look the same, each with its number in front."""
    short = [shortened(name, length) for name in names]
    times = Counter(short)
    return [
        text if times[text] == 1 else f"{number} {shortened(name, max(3, length - len(str(number)) - 1))}"
        for number, (name, text) in enumerate(zip(names, short, strict=True))
    ]
