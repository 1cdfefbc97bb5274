"""WiSE-FT's figure from a recipe's log."""

from pathlib import Path
from typing import Any

import pytest

from soups.report.figures.alpha_curve import AlphaCurve, curve_from_decisions, draw_alpha_curve


def line(alpha: float, score: float | None, accepted: bool = False, request: str = "b", **more: Any) -> dict[str, Any]:
    values = {"candidate": f"alpha={alpha:g}", "score": score, "accepted": accepted, "request": request, "images": 50}
    return {**values, "complete": True, **more}


def test_the_curve_is_the_last_sweep_in_the_log_sorted_by_alpha() -> None:
    log = [
        *(line(0.5, 0.1, True, "a"), line(0.2, 0.9, True, "a")),
        *(line(1.0, 0.5, True), line(0.9, 0.7, True), line(0.1, 0.6), line(0.0, None), line(0.3, 0.9, complete=False)),
    ]
    assert curve_from_decisions(log, "accuracy") == AlphaCurve((0.1, 0.9, 1.0), (0.6, 0.7, 0.5), 0.9, 50)
    assert curve_from_decisions(log, "log_loss") == AlphaCurve((0.1, 0.9, 1.0), (-0.6, -0.7, -0.5), 0.9, 50)


@pytest.mark.parametrize("log", [[], [line(0.5, 0.3, True)], [line(1.0, 0.5, True, "a"), line(0.4, 0.5, True)]])
def test_fewer_than_two_values_give_no_curve(log: list[dict[str, Any]]) -> None:
    assert curve_from_decisions(log, "accuracy") is None


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_equal_curves_give_equal_bytes(metric: str, tmp_path: Path) -> None:
    curve = AlphaCurve((0.0, 0.5, 1.0), (0.2, 0.9, 0.8), 0.5, 50)
    for name in ("one.png", "two.png"):
        draw_alpha_curve(curve, tmp_path / name, metric=metric, title="a $title$")
    content = (tmp_path / "one.png").read_bytes()
    assert content.startswith(b"\x89PNG") and content == (tmp_path / "two.png").read_bytes()
    draw_alpha_curve(
        AlphaCurve((0.0, 0.5, 1.0), (0.2, 0.9, 0.8), 1.0, 50), tmp_path / "two.png", metric=metric, title="a $title$"
    )
    assert content != (tmp_path / "two.png").read_bytes()
