"""Pages of images with words, in one HTML file that needs no other: what a person is to look at and decide."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soups.files.atomic import write_text

_TEMPLATE = "page.html"
_QUALITY = 85


@dataclass(frozen=True)
class ImageCard:
    """One image of a page, with what is said of it."""

    name: str
    """Its path or id."""
    image: np.ndarray | None
    """(H, W, 3) uint8, RGB in [0, 255]; None where it is not at hand."""
    first: str = ""
    """In green, such as what it is said to be."""
    second: str = ""
    """In red, such as what it is taken for."""
    note: str = ""

    @property
    def picture(self) -> str:
        """The image as the address that an HTML page has for it; empty without one."""
        if self.image is None:
            return ""
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.image).save(stream, format="JPEG", quality=_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


@dataclass(frozen=True)
class Section:
    """Images that belong together."""

    heading: str
    cards: Sequence[ImageCard]
    note: str = ""


def write_page(path: Path, title: str, intro: Sequence[str], sections: Sequence[Section]) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the HTML file.
        title: its heading.
        intro: paragraphs below it.
        sections: one after the other. All words are text: names that look like HTML are shown as they are.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    from jinja2 import Environment

    template = (Path(__file__).parent / _TEMPLATE).read_text(encoding="utf-8")
    # Jinja escapes nothing unless it is told to.
    page = Environment(autoescape=True, trim_blocks=True).from_string(template)
    write_text(path, page.render(title=title, intro=list(intro), sections=list(sections)))
