"""The comparison table: its numbers equal those of the functions that compute them; its text is as expected."""

from dataclasses import replace

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.scores import calibration_error, softmax
from soups.core.statistics import bootstrap_interval, bootstrap_mean_interval, mcnemar
from soups.ensembles.temperature import fit_temperature
from soups.report.comparison import ComparisonRow, SetTruth, compare, format_comparison, markdown_comparison

CLASSES = 3


def truth(seed: int, images: int = 60) -> SetTruth:
    rng = np.random.default_rng(seed)
    return SetTruth(rng.integers(0, CLASSES, images), np.repeat(list("abcdef"), images // 6))


SETS = {"val": truth(0), "test": truth(1), "noise": truth(2), "blur": truth(3)}


def answers(seed: int) -> np.ndarray:
    """Cross-fitted answers for the validation images."""
    rng, labels = np.random.default_rng(seed), SETS["val"].labels
    predicted = np.where(rng.random(len(labels)) < 0.8, labels, rng.integers(0, CLASSES, len(labels)))
    return np.stack([predicted, rng.random(len(labels)), rng.random(len(labels))], axis=1)


def an_entry(name: str, seed: int, skill: float, **options: object) -> ComparisonRow:
    rng = np.random.default_rng(seed)
    outputs = {}
    for key, part in SETS.items():
        table = rng.dirichlet(np.ones(CLASSES), len(part.labels)) + skill * np.eye(CLASSES)[part.labels]
        outputs[key] = table / table.sum(axis=1, keepdims=True)
    return ComparisonRow(name, outputs, **options)  # type: ignore[arg-type]


ENTRIES = [
    an_entry("best single model", 0, 0.3),
    an_entry("greedy soup", 1, 0.8, note="kept 1 of 12", crossfitted=answers(7)),
    an_entry("hard vote", 2, 0.5, shares=True, models=12),
]


def is_correct(one: ComparisonRow, name: str) -> np.ndarray:
    return (one.outputs[name].argmax(axis=1) == SETS[name].labels).astype(float)


def test_rows_equal_the_results_of_the_functions() -> None:
    rows = compare(ENTRIES, SETS, shifts=("noise", "blur"), repeats=300, seed=4)
    for row, one in zip(rows, ENTRIES, strict=True):
        groups = SETS["test"].groups
        assert row["name"] == one.name and row["note"] == one.note
        assert row["val"] == pytest.approx(is_correct(one, "val").mean())
        assert row["test"] == pytest.approx(is_correct(one, "test").mean())
        interval = bootstrap_interval(is_correct(one, "test"), groups, repeats=300, seed=4)
        assert (row["test_low"], row["test_high"]) == interval
        assert row["shift"] == pytest.approx((is_correct(one, "noise").mean() + is_correct(one, "blur").mean()) / 2)
        drawn = [(is_correct(one, name), groups) for name in ("noise", "blur")]
        assert (row["shift_low"], row["shift_high"]) == bootstrap_mean_interval(drawn, repeats=300, seed=4)
        assert row["test_low"] <= row["test"] <= row["test_high"]
    assert rows[0]["p"] is None
    assert rows[1]["p"] == mcnemar(is_correct(ENTRIES[0], "test") > 0, is_correct(ENTRIES[1], "test") > 0) < 1
    chosen = ENTRIES[1].outputs["test"][np.arange(60), SETS["test"].labels]
    assert rows[1]["test_log_loss"] == pytest.approx(-np.log(chosen).mean())
    assert rows[2]["test_log_loss"] is rows[2]["temperature"] is rows[2]["test_calibration_error"] is None
    crossfitted = ENTRIES[1].crossfitted
    assert crossfitted is not None
    right = crossfitted[:, 0] == SETS["val"].labels
    assert [row["val_crossfitted"] for row in rows] == [None, right.mean(), None]
    interval = bootstrap_interval(right, SETS["val"].groups, repeats=300, seed=4)
    assert (rows[1]["val_crossfitted_low"], rows[1]["val_crossfitted_high"]) == interval
    assert rows[1]["val_crossfitted_log_loss"] == pytest.approx(-np.log(crossfitted[:, 2]).mean())
    gains = is_correct(ENTRIES[1], "test") - is_correct(ENTRIES[0], "test")
    assert rows[1]["gain"] == pytest.approx(gains.mean()) and rows[0]["gain"] is None
    interval = bootstrap_interval(gains, SETS["test"].groups, repeats=300, seed=4)
    assert (rows[1]["gain_low"], rows[1]["gain_high"]) == interval


def test_without_labels_of_the_test_set_gains_are_cross_fitted() -> None:
    single, soup = (replace(entry, crossfitted=answers(seed)) for entry, seed in zip(ENTRIES[:2], (8, 9), strict=True))
    rows = compare([single, soup, ENTRIES[2]], {"val": SETS["val"]}, repeats=300, seed=4)
    assert single.crossfitted is not None and soup.crossfitted is not None
    right = [entry.crossfitted[:, 0] == SETS["val"].labels for entry in (single, soup)]  # type: ignore[index]
    assert rows[1]["gain"] == pytest.approx(right[1].mean() - right[0].mean()) and rows[1]["test"] is None
    assert rows[1]["p"] == mcnemar(right[1], right[0]) < 1
    assert rows[1]["gain_low"] <= rows[1]["gain"] <= rows[1]["gain_high"]
    assert rows[0]["p"] is rows[2]["p"] is rows[2]["gain"] is None
    text = format_comparison(rows)
    assert "cross-fitted % [95%]" in text and "gain [95%]" in text and "test %" not in text
    assert f"{rows[1]['val_crossfitted_log_loss']:.3f}" in text
    assert "gain, p: paired with best single model on the cross-fitted answers; exact McNemar test" in text
    assert "on the test images" not in text
    assert "mean shift" not in text and "calibration" not in text and "images/s" not in text  # Nothing is known.


def test_calibration_error_uses_the_temperature_fitted_on_validation() -> None:
    row = compare(ENTRIES, SETS, repeats=10)[1]
    logits = {name: np.log(table) for name, table in ENTRIES[1].outputs.items()}
    temperature = fit_temperature(logits["val"], SETS["val"].labels)
    assert row["temperature"] == pytest.approx(temperature)
    expected = calibration_error(softmax(logits["test"] / temperature), SETS["test"].labels)
    assert row["test_calibration_error"] == pytest.approx(expected)
    untouched = calibration_error(ENTRIES[1].outputs["test"], SETS["test"].labels)
    assert row["test_calibration_error"] != pytest.approx(untouched)
    without = compare(ENTRIES, {"test": SETS["test"]}, repeats=10)[1]
    assert without["temperature"] is without["test_calibration_error"] is None


def test_the_speed_of_a_vote_is_divided_by_its_models() -> None:
    rows = compare(ENTRIES, SETS, speed=6000.0, repeats=10)
    assert [(row["models"], row["images_per_second"]) for row in rows] == [(1, 6000), (1, 6000), (12, 500)]
    assert {row["images_per_second"] for row in compare(ENTRIES, SETS, repeats=10)} == {None}


KEYS = (
    "name",
    "val",
    "val_crossfitted",
    "test",
    "test_low",
    "test_high",
    "shift",
    "shift_low",
    "shift_high",
    "test_log_loss",
    "test_calibration_error",
    "images_per_second",
    "p",
    "note",
)
ROWS = [
    dict(zip(KEYS, values, strict=True))
    for values in (
        ("best single", 0.95, 0.94, 0.96, 0.9, 0.98, 0.75, 0.7, 0.8, 0.25249, 0.034, 2345.6, None, ""),
        ("hard|vote", 1.0, None, 0.9649, 0.95, 0.97, 0.778, 0.7, 0.8, None, None, 9.84, 0.0312, "12 models"),
    )
]
LEGEND = [
    "[95%]: interval, resampling groups",
    "validation flatters what was chosen on it; cross-fitted: chosen and calibrated on the other folds of the"
    " validation images",
    "log-loss: on the test images, in nats; calibration: expected calibration error there, in %, at the temperature"
    " fitted on validation",
    "images/s: one model measured on this machine, from pixels in memory; a vote of M models: that / M",
    "p: exact McNemar test on the test images against best single",
    "hard|vote: 12 models",
]


def test_text_table() -> None:
    lines = format_comparison(ROWS).splitlines()
    assert lines[:4] == [
        "             validation %  cross-fitted       test % [95%]  mean shift % [95%]  log-loss  calibration"
        "  images/s      p",
        "───────────  ────────────  ────────────  ─────────────────  ──────────────────  ────────  ───────────"
        "  ────────  ─────",
        "best single          95.0          94.0  96.0 [90.0, 98.0]   75.0 [70.0, 80.0]     0.252          3.4"
        "     2,346      –",
        "hard|vote           100.0             –  96.5 [95.0, 97.0]   77.8 [70.0, 80.0]         –            –"
        "       9.8  0.031",
    ]
    assert lines[4:] == LEGEND


def test_markdown_table() -> None:
    lines = markdown_comparison(ROWS).splitlines()
    assert lines[:4] == [
        "|  | validation % | cross-fitted | test % [95%] | mean shift % [95%] | log-loss | calibration | images/s |"
        " p |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| best single | 95.0 | 94.0 | 96.0 [90.0, 98.0] | 75.0 [70.0, 80.0] | 0.252 | 3.4 | 2,346 | – |",
        r"| hard\|vote | 100.0 | – | 96.5 [95.0, 97.0] | 77.8 [70.0, 80.0] | – | – | 9.8 | 0.031 |",
    ]
    assert lines[4:] == ["", *(f"- {line}" for line in LEGEND)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.00"), (0.1234, "0.12"), (0.0499, "0.050"), (0.00312, "0.003"), (0.00031, "0.0003"), (1e-9, "<0.0001")],
)
def test_digits_of_p_values(value: float, text: str) -> None:
    rows = [ROWS[0], ROWS[1] | {"p": value}]
    assert format_comparison(rows).splitlines()[3].endswith(f" {text}")


def test_columns_of_missing_sets_are_left_out() -> None:
    only = [ComparisonRow(one.name, {"val": one.outputs["val"]}, note=one.note) for one in ENTRIES]
    rows = compare(only, {"val": SETS["val"]}, shifts=("noise",))
    assert all(row["test"] is None and row["shift"] is None and row["p"] is None for row in rows)
    header, _, line = format_comparison(rows).splitlines()[:3]
    assert header.split() == ["validation", "%"] and line.split()[-1] == f"{100 * rows[0]['val']:.1f}"
    assert "log-loss:" not in format_comparison(rows)
    assert compare([], SETS) == []
    assert format_comparison([]) == markdown_comparison([]) == "nothing to compare"


def test_outputs_of_another_length_are_rejected() -> None:
    short = ComparisonRow("soup", ENTRIES[0].outputs | {"noise": np.ones((5, CLASSES)) / CLASSES})
    with pytest.raises(DataError, match=r"soup: no results that fit the set 'noise'(?s:.*)60 images(?s:.*)5 images"):
        compare([short], SETS, shifts=("noise",))
    with pytest.raises(DataError, match=r"soup: no results that fit the set 'val'(?s:.*)none"):
        compare([ComparisonRow("soup", {})], SETS)
