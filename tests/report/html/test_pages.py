"""Pages: a single file with escaped text."""

import re
from pathlib import Path

import numpy as np

from soups.report.html.pages import ImageCard, Section, write_page


def test_a_page_contains_its_images_and_escapes_text(tmp_path: Path) -> None:
    pixels = np.full((20, 30, 3), (200, 40, 40), dtype=np.uint8)
    cards = [
        ImageCard("<script>alert(1)</script>.png", pixels, first="is a&b", second="<b>bold</b>", note='"quoted"'),
        ImageCard("without.png", None),
    ]
    path = tmp_path / "pages" / "page.html"
    write_page(path, "A <title>", ["one & two"], [Section("First", cards, "a note"), Section("Empty", [])])
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text and "<b>" not in text
    assert "&lt;script&gt;alert(1)" in text and "A &lt;title&gt;" in text and "one &amp; two" in text
    assert text.count("<img ") == 1 and text.count("<figure>") == 2
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text), "a page needs no other file"


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    for name in ("one.html", "two.html"):
        write_page(tmp_path / name, "t", [], [Section("s", [ImageCard("n", pixels)])])
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
