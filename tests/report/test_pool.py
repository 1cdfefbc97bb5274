"""Tables of fine-tunes: cells, the best model, and the middle of long tables."""

from typing import Any

import pytest

from soups.report.pool import fold_rows, format_pool, hyperparameters_of, pool_row

TRAINING: dict[str, Any] = {"lr": 0.000281345, "wd": 0.1, "epochs": 8, "augmentation": "crop", "aug": None, "mix": 0.0}


def row(name: str, metric: str = "accuracy", score: float | None = 0.9, **values: Any) -> dict[str, Any]:
    scores = {} if score is None else {metric: score}
    return pool_row(name, {**TRAINING, "smoothing": 0.25, **values}, scores, metric)


def test_a_row_has_the_exact_values() -> None:
    values = row("p0", aug="rand-m9-n2")
    assert values == {
        "model": "p0",
        "lr": 0.000281345,
        "wd": 0.1,
        "epochs": 8,
        "augmentation": "crop rand-m9-n2",
        "mix": 0.0,
        "smoothing": 0.25,
        "val_accuracy": 0.9,
    }
    assert hyperparameters_of({})["lr"] is None


def test_the_table_names_the_best_model() -> None:
    text = format_pool([row("p0"), row("p1", score=0.955), row("p2", score=None)], "accuracy")
    header, _, first, second, third, best = text.split("\n")
    assert header.split() == ["model", "lr", "wd", "epochs", "augmentation", "mix", "smoothing", "val", "%"]
    assert first.split() == ["p0", "0.000281", "0.1", "8", "crop", "0", "0.25", "90.0"]
    assert second.split()[-1] == "95.5" and third.split()[-1] == "–" and best == "best on validation: p1"


@pytest.mark.parametrize(("metric", "best"), [("log_loss", "p0"), ("macro_f1", "p1")])
def test_the_best_model_follows_the_metric(metric: str, best: str) -> None:
    text = format_pool([row("p0", metric, 0.2), row("p1", metric, 0.4)], metric)
    assert f"val {metric.replace('_', ' ')}" in text and "0.2000" in text and text.endswith(best)
    assert "best" not in format_pool([row("p0")], "accuracy")


def test_an_augmentation_from_a_file_is_shortened() -> None:
    text = format_pool([row("p0", augmentation='{"transform": {"__class_fullname__": "Compose"}}')], "accuracy")
    assert '{"transform": {"__cla…' in text


def test_the_middle_of_a_long_table_is_left_out() -> None:
    cells = [[str(number), "x"] for number in range(100)]
    folded = fold_rows(cells, 10)
    assert [cell for cell, _ in folded] == ["0", "1", "2", "3", "4", "5", "… 91 more", "97", "98", "99"]
    assert fold_rows(cells[:10], 10) == cells[:10]
    assert "… 62 more" in format_pool([row(f"p{number}") for number in range(101)], "accuracy")
