"""Overlays show image and map; sheets and curves have equal bytes."""

from pathlib import Path

import numpy as np

from soups.report.figures.grid import Tile
from soups.report.figures.overlays import SheetRow, draw_faithfulness_curves, draw_sheet, overlay


def test_an_overlay_is_lighter_where_the_map_is_higher() -> None:
    image = np.full((100, 100, 3), 90, dtype=np.uint8)
    image[40:60] = (200, 30, 30)
    heat = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (100, 1))
    result = overlay(image, heat)
    assert result.shape == (300, 300, 3) and result.dtype == np.uint8
    light = result.astype(int) @ np.array([299, 587, 114]) // 1000
    assert light[0, 290] > light[0, 150] > light[0, 5]
    plain = overlay(np.full_like(image, 90), heat)
    assert (np.abs(result.astype(int) - plain)[:120] == 0).all()
    # Where the map is 0, a quarter of the overlay is its darkest colour and the rest is the image in grey.
    shade = np.array([200, 30, 30]) @ np.array([0.299, 0.587, 0.114])
    assert result[150, 0].tolist() == np.rint(0.75 * shade + 0.25 * np.array([0, 0, 4])).tolist()


def test_sheets_and_curves_have_equal_bytes(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    rows = [
        SheetRow("one\n$x_{", [Tile(picture, "a"), None, Tile(picture, "b")]),
        SheetRow("two", [Tile(picture, "c")]),
    ]
    curve = np.linspace(1, 0, 5)
    for name in ("first", "second"):
        draw_sheet(rows, tmp_path / f"{name}.png", "a sheet")
        draw_faithfulness_curves(
            [("deletion", curve, curve / 2)], tmp_path / f"{name}_curves.png", "curves", np.linspace(0, 1, 5)
        )
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert (tmp_path / "first_curves.png").read_bytes() == (tmp_path / "second_curves.png").read_bytes()
