"""Comparison of networks: the table against numbers by hand, the frontier against its definition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import DataError
from soups.report.comparison import SetTruth
from soups.report.frontier import (
    COSTS,
    NetworkResult,
    draw_frontier,
    format_networks,
    markdown_networks,
    network_rows,
    pareto_frontier,
)

COST: dict[str, Any] = {
    "epochs": 3,
    "parameters": 1_500_000,
    "trainable": 1_000,
    "multiply_adds": 2_000_000,
    "seconds_per_epoch": 1.25,
    "images_per_second": 1234.5,
    "peak_memory": 512 * 2**20,
}
LABELS = np.array([0, 0, 0, 1, 1, 1])
GROUPS = np.array(["a", "a", "b", "b", "c", "c"])


def probabilities_of(classes: list[int], confidence: float = 0.9) -> np.ndarray:
    """Probabilities of two classes that predict these."""
    table = np.full((len(classes), 2), 1 - confidence)
    table[np.arange(len(classes)), classes] = confidence
    return table


def entry(name: str, *predictions: list[int], **costs: Any) -> NetworkResult:
    return NetworkResult(name, tuple(map(probabilities_of, predictions)), {**COST, **costs})


def test_scores_by_hand() -> None:
    first, second = [0, 0, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1]  # five right, four right
    (row,) = network_rows([entry("net", first, second)], SetTruth(LABELS, GROUPS), ["no", "yes"])
    assert row["accuracy"] == pytest.approx((5 / 6 + 4 / 6) / 2)
    assert (row["accuracy_worst"], row["accuracy_best"]) == (pytest.approx(4 / 6), pytest.approx(5 / 6))
    # F1 = 2 TP / (2 TP + FP + FN): no 6/7 and 2/4, yes 4/5 and 6/8.
    assert row["f1"]["no"] == pytest.approx((6 / 7 + 2 / 4) / 2)
    assert row["f1"]["yes"] == pytest.approx((4 / 5 + 6 / 8) / 2)
    assert row["macro_f1"] == pytest.approx((6 / 7 + 4 / 5 + 2 / 4 + 6 / 8) / 4)
    # All are 90% probabilities_of, in one bin: the gap between that and what is right.
    assert row["calibration_error"] == pytest.approx(((0.9 - 5 / 6) + (0.9 - 4 / 6)) / 2)
    assert row["seeds"] == 2 and row["frontier"] and row["epochs"] == 3
    # Mean hits of groups a, b, c are 3/4, 3/4 and 3/4: whatever is drawn, that is the mean.
    assert (row["accuracy_low"], row["accuracy_high"]) == (pytest.approx(0.75), pytest.approx(0.75))


def test_the_interval_resamples_groups() -> None:
    predicted = [0, 0, 1, 0, 1, 1]  # group b is all wrong
    (row,) = network_rows([entry("net", predicted)], SetTruth(LABELS, GROUPS), ["no", "yes"])
    assert row["accuracy_low"] == 0.0 and row["accuracy_high"] == 1.0
    assert row["accuracy"] == pytest.approx(4 / 6)


def test_sorted_by_accuracy_then_cost() -> None:
    right, worse = list(LABELS), [0, 0, 0, 1, 1, 0]
    entries = [
        entry("worse", worse, multiply_adds=1),
        entry("dear", right, multiply_adds=9),
        entry("cheap", right, multiply_adds=5),
        entry("unknown", right, multiply_adds=None),
    ]
    rows = network_rows(entries, SetTruth(LABELS, GROUPS), ["no", "yes"])
    assert [(row["name"], row["frontier"]) for row in rows] == [
        ("cheap", True),
        ("dear", False),
        ("unknown", False),
        ("worse", True),
    ]
    by_time = network_rows(
        [entry("a", right, seconds_per_epoch=2), entry("b", worse, seconds_per_epoch=3)],
        SetTruth(LABELS, GROUPS),
        ["no", "yes"],
        "seconds_per_epoch",
    )
    assert [row["frontier"] for row in by_time] == [True, False]


def test_entries_on_the_frontier_are_not_dominated() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        number = int(rng.integers(1, 8))
        scores = [float(score) for score in rng.integers(0, 4, number)]  # Few values: many ties.
        costs = [None if rng.random() < 0.1 else float(cost) for cost in rng.integers(0, 4, number)]

        def dominated(index: int, scores: list[float] = scores, costs: list[float | None] = costs) -> bool:
            own = costs[index]
            if own is None:
                return True
            return any(
                cost is not None and score >= scores[index] and cost <= own and (score > scores[index] or cost < own)
                for score, cost in zip(scores, costs, strict=True)
            )

        assert pareto_frontier(scores, costs) == [not dominated(index) for index in range(number)]


def test_text_and_markdown_tables() -> None:
    rows = network_rows(
        [entry("big", [0, 0, 0, 1, 1, 0]), entry("small", [0, 1, 1, 1, 1, 0], multiply_adds=500_000, peak_memory=None)],
        SetTruth(LABELS, GROUPS),
        ["no", "yes"],
    )
    lines = format_networks(rows).splitlines()
    assert lines[0].split("  ")[-1].strip() == "peak MiB"
    assert "F1 no %" in lines[0] and "F1 yes %" in lines[0]
    cells = [cell.strip() for cell in lines[2].split("  ") if cell.strip()]
    assert cells[:3] == ["big", "◆", "83.3 [50.0, 100.0]"]
    assert cells[-7:] == ["1.50", "0.00", "2.0", "3", "1.2", "1,234", "512"]
    assert lines[3].rstrip().endswith("–") and "frontier" in lines[4]
    assert markdown_networks(rows).splitlines()[0].startswith("|  | frontier | accuracy % [95%] |")


def test_with_many_classes_the_table_has_the_mean_and_the_worst() -> None:
    labels = np.arange(6)
    outputs = np.eye(6)[[0, 1, 2, 3, 4, 4]]
    (row,) = network_rows([NetworkResult("net", (outputs,), COST)], SetTruth(labels), list("abcdef"))
    text = format_networks([row])
    assert "macro-F1 %" in text and "0.0 (f)" in text and "F1 a %" not in text
    assert row["macro_f1"] == pytest.approx((4 + 2 / 3) / 6)


def test_predictions_of_other_images_are_rejected() -> None:
    with pytest.raises(DataError, match="do not fit each other"):
        network_rows([entry("net", [0, 1])], SetTruth(LABELS, GROUPS), ["no", "yes"])


@pytest.mark.parametrize("cost", COSTS)
def test_figures_have_equal_bytes(tmp_path: Path, cost: str) -> None:
    entries = [entry("$a$", [0, 0, 0, 1, 1, 0]), entry("b" * 50, [0, 1, 1, 1, 1, 0], multiply_adds=None)]
    rows = network_rows(entries, SetTruth(LABELS, GROUPS), ["no", "yes"], cost)
    for name in ("one.png", "two.png"):
        draw_frontier(rows, tmp_path / name, title="toys", images="accuracy on 6 test images", cost=cost)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > 900 and np.asarray(image.convert("L")).std() > 5


def test_a_figure_of_unknown_costs_is_rejected(tmp_path: Path) -> None:
    rows = network_rows([entry("net", [0, 0, 0, 1, 1, 0], peak_memory=None)], SetTruth(LABELS, GROUPS), ["no", "yes"])
    with pytest.raises(DataError, match="peak memory"):
        draw_frontier(rows, tmp_path / "x.png", title="toys", images="accuracy", cost="peak_memory")
