"""Learning curves from lines of a log."""

from pathlib import Path
from typing import Any

import pytest

from soups.report.figures.learning_curves import TrainingCurve, curve_from_log, draw_pool_curves, draw_training_curve


def line(epoch: int, value: float | None = 0.5, phase: str = "all", **more: Any) -> dict[str, Any]:
    scores = {"accuracy": value, "macro_f1": value, "log_loss": 1 - value} if value is not None else None
    record = {"epoch": epoch, "loss": 2 / epoch, "lr": 1e-3 / epoch, "phase": phase, **more}
    return record | ({"val": scores} if scores else {})


def curve_of(name: str, values: list[float], **more: Any) -> TrainingCurve:
    found = curve_from_log([line(epoch, value) for epoch, value in enumerate(values, start=1)], name, **more)
    assert found is not None
    return found


def test_the_last_training_in_the_log_is_used_and_its_last_epoch_selected() -> None:
    log = [line(1, 0.1), line(2, 0.9), line(1, 0.3), line(2, None), line(3, 0.2)]
    found = curve_from_log(log, "a", loss_name="FocalLoss")
    assert found is not None
    assert (found.name, found.losses, found.rates) == ("a", (2, 1, 2 / 3), (1e-3, 1e-3 / 2, 1e-3 / 3))
    assert list(found.scores) == [1, 3] and found.scores[3]["accuracy"] == 0.2
    assert (found.selected_epoch, found.head_epochs, found.loss_name) == (3, 0, "FocalLoss")


@pytest.mark.parametrize(("watched", "kept"), [("accuracy", 2), ("log_loss", 2), (None, 4)])
def test_the_best_epoch_by_the_watched_metric_is_selected(watched: str | None, kept: int) -> None:
    assert curve_of("a", [0.5, 0.7, 0.7, 0.6], watched=watched).selected_epoch == kept


def test_an_epoch_that_trained_only_the_head_is_not_selected() -> None:
    log = [line(1, 0.9, "head"), line(2, 0.4), line(3, 0.5)]
    found = curve_from_log(log, "a", watched="accuracy")
    assert found is not None and (found.selected_epoch, found.head_epochs) == (3, 1)
    alone = curve_from_log([line(1, 0.9, "head"), line(2, 0.4, "head")], "a", watched="accuracy")
    assert alone is not None and (alone.selected_epoch, alone.head_epochs) == (1, 0)


@pytest.mark.parametrize("log", [[], [line(2), line(3)], [line(1), line(3)]])
def test_an_incomplete_log_gives_no_curve(log: list[dict[str, Any]]) -> None:
    assert curve_from_log(log, "a") is None


def test_equal_logs_give_equal_bytes(tmp_path: Path) -> None:
    curves = [curve_of("a", [0.2, 0.5, 0.7]), curve_of("b$c$", [0.3])]
    for name in ("one", "two"):
        draw_training_curve(curves[0], tmp_path / f"{name}.png", metric="macro_f1")
        draw_pool_curves(curves, tmp_path / f"{name}_pool.png", metric="log_loss", title="a pool")
    for what in ("", "_pool"):
        content = (tmp_path / f"one{what}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and content == (tmp_path / f"two{what}.png").read_bytes()
    draw_pool_curves([curves[0], curve_of("b$c$", [0.4])], tmp_path / "two_pool.png", metric="log_loss", title="a pool")
    assert (tmp_path / "one_pool.png").read_bytes() != (tmp_path / "two_pool.png").read_bytes()


def test_a_log_without_validation_is_drawn(tmp_path: Path) -> None:
    found = curve_from_log([line(1, None, "head"), line(2, None)], "a")
    assert found is not None
    draw_training_curve(found, tmp_path / "a.png", metric="accuracy")
    draw_pool_curves([found], tmp_path / "pool.png", metric="accuracy", title="a pool")
    assert (tmp_path / "a.png").exists() and (tmp_path / "pool.png").exists()
