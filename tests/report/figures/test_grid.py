"""Size and reproducibility of a grid of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soups.report.figures.grid import Tile, draw_grid


@pytest.mark.parametrize("number", [0, 1, 9])
def test_grids_of_any_number(number: int, tmp_path: Path) -> None:
    tiles = [Tile(np.full((4, 4, 3), 20 * index, np.uint8), f"${index}", "below") for index in range(number)]
    for name in ("one.png", "two.png"):
        draw_grid(tiles, tmp_path / name, "a $heading$")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_more_rows_are_higher(tmp_path: Path) -> None:
    heights = []
    for number in (4, 12):
        draw_grid([Tile(np.zeros((4, 4, 3), np.uint8), "a")] * number, tmp_path / "a.png", "heading")
        with Image.open(tmp_path / "a.png") as image:
            heights.append(image.height)
    assert heights[0] < heights[1]
