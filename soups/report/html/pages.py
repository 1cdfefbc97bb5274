"""Pages of images with text, each a single HTML file without external resources, for review by a person."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soups.files.atomic import write_text
from soups.report.templates import render_template

_QUALITY = 85


@dataclass(frozen=True)
class ImageCard:
    """One image of a page with its text."""

    name: str
    """Path or id of the image."""
    image: np.ndarray | None
    """(H, W, 3) uint8, RGB in [0, 255]; None: not available."""
    first: str = ""
    """Line in green, such as the label."""
    second: str = ""
    """Line in red, such as the prediction."""
    note: str = ""

    @property
    def picture(self) -> str:
        """The image as a `data:` URL; empty without an image."""
        if self.image is None:
            return ""
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.image).save(stream, format="JPEG", quality=_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


@dataclass(frozen=True)
class Section:
    """A headed group of images."""

    heading: str
    cards: Sequence[ImageCard]
    note: str = ""


def write_page(path: Path, title: str, intro: Sequence[str], sections: Sequence[Section]) -> None:
    """Write a page atomically.

    Args:
        path: the HTML file.
        title: heading of the page.
        intro: paragraphs below it.
        sections: in order. All text is escaped: names that look like HTML are shown as they are.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    write_text(path, render_template("html/page.html", title=title, intro=intro, sections=sections))
