"""Metrics against scikit-learn and slow loops."""

import numpy as np
import pytest

from soups.core import metrics, scores
from soups.core.errors import DataError


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 60)), int(rng.integers(2, 8))
    logits = rng.normal(scale=rng.choice([0.1, 1, 10]), size=(images, classes))
    labels = rng.integers(0, rng.integers(1, classes + 1), images)  # Often some classes do not occur.
    return scores.softmax(logits), labels.astype(np.int64)


@pytest.mark.parametrize("block", range(10))
def test_metrics_equal_scikit_learn(block: int) -> None:
    import warnings

    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

    for seed in range(block * 20, block * 20 + 20):
        table, labels = random_case(seed)
        predictions = table.argmax(axis=1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore")  # scikit-learn's own, about classes that do not occur.
            expected = {
                "accuracy": accuracy_score(labels, predictions),
                "balanced_accuracy": balanced_accuracy_score(labels, predictions),
                "macro_f1": f1_score(labels, predictions, average="macro"),
                "log_loss": log_loss(labels, table, labels=range(table.shape[1])),
            }
        found = metrics.all_scores(table, labels)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_calibration_error_equals_a_loop_over_bins() -> None:
    for seed in range(100):
        table, labels = random_case(seed)
        confidence, right = table.max(axis=1), table.argmax(axis=1) == labels
        expected = 0.0
        for index in range(15):
            inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
            if inside.any():
                expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        assert scores.calibration_error(table, labels) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_known_tables() -> None:
    labels = np.array([0, 0, 1, 1])
    assert scores.calibration_error(np.eye(2)[[0, 0, 1, 1]], labels) == 0
    assert scores.calibration_error(np.eye(2)[[1, 1, 0, 0]], labels) == 1
    sure = np.tile([0.8, 0.2], (4, 1))  # Half are right at 80% confidence.
    assert scores.calibration_error(sure, labels) == pytest.approx(0.3)


def test_softmax_is_stable_and_accepts_minus_infinity() -> None:
    table = scores.softmax(np.array([[1e4, 0, 0], [-1e4, -1e4, -np.inf]], dtype=np.float32))
    assert table.dtype == np.float64
    np.testing.assert_allclose(table, [[1, 0, 0], [0.5, 0.5, 0]])


@pytest.mark.parametrize("row", [[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]])
def test_logits_that_are_not_finite_are_named(row: list[float]) -> None:
    with pytest.raises(DataError, match=r"logits of image 1 .* not finite(?s:.*)1 of 2 images(?s:.*)diverged"):
        scores.softmax(np.array([[0, 0], row], dtype=np.float32))


def test_ties_go_to_the_lowest_index() -> None:
    assert scores.predictions(np.array([[0.2, 0.4, 0.4], [0.5, 0.0, 0.5]])).tolist() == [1, 0]


def test_accuracy_is_exactly_one_minus_the_error_rate() -> None:
    for seed in range(50):
        table, labels = random_case(seed)
        wrong = sum(int(row.argmax()) != label for row, label in zip(table, labels, strict=True))
        assert np.count_nonzero(~scores.correct(table, labels)) == wrong
        assert scores.accuracy(table, labels) == (len(labels) - wrong) / len(labels)


def test_log_loss_of_probability_zero_is_finite() -> None:
    assert scores.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(np.finfo(float).eps))


@pytest.mark.parametrize(
    ("table", "labels", "words"),
    [
        (np.ones((2, 2)) / 2, np.array([0]), "do not fit"),
        (np.ones((0, 2)), np.array([], dtype=np.int64), "no images"),
        (np.ones((1, 2)) / 2, np.array([2]), "label 2 is not a class index"),
        (np.ones((1, 2)) / 2, np.array([-1]), "label -1 is not a class index"),
        (np.array([[np.nan, 1.0]]), np.array([1]), "hold NaN"),
    ],
)
def test_invalid_tables_are_rejected(table: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        metrics.all_scores(table, labels)


def test_scores_import_no_scikit_learn() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from soups.core.metrics import *; from soups.core.scores import *;"
        "all_scores(softmax(np.eye(2)), np.array([0, 1])); "
        "assert not {'sklearn', 'scipy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
