"""Scores of the class and of each factor, gains over the first table, and mistakes, against loops and scikit-learn."""

import re
from dataclasses import replace

import numpy as np
import pytest

from soups.core.labels import Factor, LabelSpace
from soups.report import validation
from soups.report.answers import LabelledPredictions
from soups.report.validation import (
    class_rows,
    comparison_rows,
    comparison_text,
    frequent_mistakes,
    score_rows,
    score_table,
    validation_text,
)

SPACE = LabelSpace.product([Factor("mask", ("on", "off")), Factor("age", ("young", "middle", "old"))])


def predictions_of(seed: int, share: float = 0.7, images: int = 120, space: LabelSpace = SPACE) -> LabelledPredictions:
    """Return predictions that are right with a probability, for groups of four images; all have the same labels."""
    truth = np.random.default_rng(99).integers(0, len(space), images)
    rng = np.random.default_rng(seed)
    predictions = np.where(rng.random(images) < share, truth, rng.integers(0, len(space), images))
    return LabelledPredictions(truth, predictions, np.repeat(np.arange(images // 4), 4).astype(str), space)


def test_each_factor_is_scored_on_its_levels() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    given = predictions_of(0)
    rows = {row["of"]: row for row in score_rows(given)}
    assert list(rows) == ["class", "mask", "age"]
    truth = [SPACE.names[label].split("/") for label in given.labels]
    predicted = [SPACE.names[label].split("/") for label in given.predictions]
    for name, place in (("mask", 0), ("age", 1)):
        levels = [each[place] for each in truth], [each[place] for each in predicted]
        assert rows[name]["accuracy"] == pytest.approx(accuracy_score(*levels))
        assert rows[name]["macro_f1"] == pytest.approx(f1_score(*levels, average="macro"))
    assert rows["class"]["macro_f1"] == pytest.approx(f1_score(given.labels, given.predictions, average="macro"))
    for row in rows.values():
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
        assert (row["images"], row["groups"]) == (120, 30)


def test_classes_without_factors_have_one_row() -> None:
    plain = predictions_of(0, space=LabelSpace(("cat", "dog", "owl")))
    assert [row["of"] for row in score_rows(plain)] == ["class"]
    assert "— class —" not in validation_text("m", plain)
    age = predictions_of(0, space=SPACE.part(["age"]))
    assert [row["of"] for row in score_rows(age)] == ["class"]


def test_mistakes_are_ordered_by_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    given = predictions_of(1)
    assert frequent_mistakes(predictions_of(0, share=1.0)) == [] and len(frequent_mistakes(given)) == 10
    monkeypatch.setattr(validation, "_MAX_MISTAKES", 100)
    found = frequent_mistakes(given)
    wrong: dict[tuple[str, str], int] = {}
    for truth, predicted in zip(given.labels, given.predictions, strict=True):
        if truth != predicted:
            key = SPACE.names[truth], SPACE.names[predicted]
            wrong[key] = wrong.get(key, 0) + 1
    assert {(truth, predicted): count for truth, predicted, count, _ in found} == wrong
    assert [count for *_, count, _ in found] == sorted(wrong.values(), reverse=True)
    for truth, *_, images in found:
        assert images == int((given.labels == SPACE.names.index(truth)).sum())


def test_gains_are_differences_to_the_first_entry() -> None:
    first, better = predictions_of(0, 0.6), predictions_of(1, 0.95)
    rows = comparison_rows({"first": [first], "same": [first], "better": [better]})
    assert rows[0]["p"] is None and rows[0]["class_macro_f1_gain"] is None
    same, gained = rows[1], rows[2]
    assert (same["class_macro_f1_gain"], same["class_macro_f1_gain_low"], same["p"]) == (0, 0, 1)
    assert gained["class_macro_f1_gain"] == pytest.approx(gained["class_macro_f1"] - rows[0]["class_macro_f1"])
    assert 0 < gained["class_macro_f1_gain_low"] < gained["class_macro_f1_gain"] < gained["class_macro_f1_gain_high"]
    assert gained["p"] < 0.001 and gained["age_accuracy_gain"] > 0
    header, _, line, *_, notes = comparison_text(rows).splitlines()
    assert re.split(r"  +", header)[-3:] == ["mask F1 %", "age F1 %", "p"]
    assert re.split(r"  +", line)[0] == "first" and re.split(r"  +", line)[3] == "–"
    assert "gain: macro-F1 against first" in notes


def test_the_interval_of_a_gain_resamples_groups() -> None:
    first, better = predictions_of(0, 0.6), predictions_of(1, 0.9)
    row = comparison_rows({"first": [first], "better": [better]})[1]
    rng, gains = np.random.default_rng(5), []
    for _ in range(1500):
        drawn = np.concatenate([4 * group + np.arange(4) for group in rng.integers(0, 30, 30)])
        gains.append(
            np.mean(better.predictions[drawn] == better.labels[drawn])
            - np.mean(first.predictions[drawn] == first.labels[drawn])
        )
    expected = np.percentile(gains, [2.5, 97.5])
    found = row["class_accuracy_gain_low"], row["class_accuracy_gain_high"]
    assert found == pytest.approx(expected, abs=0.015)


def test_the_report_has_all_sections() -> None:
    given = predictions_of(2)
    text = validation_text("mask0", given)
    right = int((given.labels == given.predictions).sum())
    assert f"mask0: {right} of 120 validation images right" in text
    for words in (
        "— class —",
        "— mask —",
        "— age —",
        "macro-F1 % [95%]",
        "precision %",
        "truth → prediction",
        "on/young",
    ):
        assert words in text
    assert len(class_rows(given)) == 6 + 2 + 3
    assert {row["of"] for row in class_rows(given)} == {"class", "mask", "age"}
    assert score_table(score_rows(given)).splitlines()[2].startswith("class")


def test_scores_of_several_tables_are_averaged() -> None:
    one, two, first = predictions_of(3, 0.8), predictions_of(4, 0.9), predictions_of(0, 0.6)
    rows = comparison_rows({"first": [first], "both": [one, two]})
    single = [comparison_rows({"first": [first], "x": [each]})[1] for each in (one, two)]
    for key in ("class_accuracy", "age_macro_f1", "class_macro_f1_gain"):
        assert rows[1][key] == pytest.approx(np.mean([row[key] for row in single]))
    assert rows[1]["p"] is None and rows[1]["class_accuracy_gain_low"] < rows[1]["class_accuracy_gain"]
    assert "both: mean of 2 tables" in comparison_text(rows)


def with_probabilities(seed: int) -> LabelledPredictions:
    """Return predictions with probabilities, which are the most probable classes."""
    given = predictions_of(seed)
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(SPACE)), len(given.labels))
    rows, best = np.arange(len(probabilities)), probabilities.argmax(axis=1)
    highest = probabilities[rows, best].copy()
    probabilities[rows, best], probabilities[rows, given.predictions] = (
        probabilities[rows, given.predictions],
        highest,
    )
    return replace(given, probabilities=probabilities)


def test_probabilities_have_a_log_loss_and_a_calibration_error() -> None:
    from soups.core.scores import calibration_error, log_loss
    from soups.core.statistics import bootstrap_interval

    given = with_probabilities(0)
    assert given.probabilities is not None
    loss = log_loss(given.probabilities, given.labels)
    text = validation_text("model", given)
    assert f"log-loss {loss:.3f} [" in text
    assert f"calibration error {100 * calibration_error(given.probabilities, given.labels):.1f}%" in text
    assert "log-loss" not in validation_text("model", predictions_of(0))
    (row,) = comparison_rows({"one": [given]})
    losses = -np.log(given.probabilities[np.arange(120), given.labels])
    interval = bootstrap_interval(losses, given.groups)
    assert row["log_loss"] == pytest.approx(loss)
    assert (row["log_loss_low"], row["log_loss_high"]) == pytest.approx(interval, abs=0.08)


def test_log_losses_are_compared_where_all_have_probabilities() -> None:
    named = {"one": [with_probabilities(0)], "two": [with_probabilities(1), with_probabilities(2)]}
    one, two = comparison_rows(named)
    assert one["log_loss_change"] is None and two["log_loss_change"] == pytest.approx(two["log_loss"] - one["log_loss"])
    assert two["log_loss_change_low"] < two["log_loss_change"] < two["log_loss_change_high"]
    assert "log-loss [95%]" in comparison_text([one, two])
    assert "log_loss" not in comparison_rows({**named, "three": [predictions_of(3)]})[0]
