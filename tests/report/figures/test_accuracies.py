"""The figure of accuracies with intervals: which set is drawn, and the same bytes each time."""

from pathlib import Path
from unittest.mock import patch

import pytest
from PIL import Image

from soups.report.figures import accuracies

FIRST = {
    "name": "best single",
    "val": 0.9,
    "val_crossfitted": 0.88,
    "val_crossfitted_low": 0.8,
    "val_crossfitted_high": 0.95,
}
SECOND = {"name": "hard vote", "val": 0.8, "val_crossfitted": None, "test": None}
TESTED = {"name": "a soup", "val": 0.7, "test": 0.6, "test_low": 0.5, "test_high": 0.7}


@pytest.mark.parametrize(
    ("rows", "label", "shown"),
    [
        ([FIRST, SECOND], "cross-fitted validation accuracy", 1),
        ([SECOND], "validation accuracy, % (it flatters", 1),
        ([FIRST, TESTED], "test accuracy", 1),
    ],
)
def test_the_best_known_set_is_drawn(tmp_path: Path, rows: list[dict[str, object]], label: str, shown: int) -> None:
    with patch.object(accuracies.style, "format_axes", wraps=accuracies.style.format_axes) as formatted:
        accuracies.draw_accuracies(rows, tmp_path / "a.png", "title")
    axes, _, found = formatted.call_args.args
    assert found.startswith(label) and len(axes.get_yticks()) == shown
    accuracies.draw_accuracies(rows, tmp_path / "b.png", "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 500
