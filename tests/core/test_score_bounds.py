"""Bounds against brute force: the metric of every possible outcome of the remaining images."""

import itertools

import numpy as np
import pytest

from soups.core.metrics import METRICS

EXACT = ["accuracy", "balanced_accuracy", "macro_f1"]


def random_table(seed: int, images: int = 12, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (N, C), labels (N,) and an order of the images; some classes may not occur."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.5), size=images)
    return probabilities, rng.integers(0, rng.integers(1, classes + 1), images), rng.permutation(images)


@pytest.mark.parametrize("metric", EXACT)
def test_the_bound_is_the_metric_if_all_remaining_images_are_correct(metric: str) -> None:
    for seed in range(200):
        probabilities, labels, order = random_table(seed)
        tally, hypothetical = METRICS[metric].bound(labels, 4), np.eye(4)[labels]
        for rows in np.array_split(order, 5):
            tally.add(rows, probabilities[rows])
            hypothetical[rows] = probabilities[rows]
            assert tally.best_possible() == METRICS[metric].score(hypothetical, labels)


@pytest.mark.parametrize("metric", EXACT)
def test_no_outcome_of_the_remaining_images_exceeds_the_bound(metric: str) -> None:
    for seed in range(30):
        probabilities, labels, order = random_table(seed, images=7, classes=3)
        seen, unseen = order[:4], order[4:]
        tally = METRICS[metric].bound(labels, 3)
        tally.add(seen, probabilities[seen])
        for outcome in itertools.product(range(3), repeat=len(unseen)):
            table = probabilities.copy()
            table[unseen] = np.eye(3)[list(outcome)]
            assert METRICS[metric].score(table, labels) <= tally.best_possible()


def test_the_bound_of_the_log_loss_decreases_to_the_loss() -> None:
    for seed in range(50):
        probabilities, labels, order = random_table(seed)
        tally, last = METRICS["log_loss"].bound(labels, 4), 0.0
        for rows in np.array_split(order, 6):
            tally.add(rows, probabilities[rows])
            assert tally.best_possible() <= last
            last = tally.best_possible()
        score = METRICS["log_loss"].score(probabilities, labels)
        assert score <= last  # A candidate is never stopped for what rounding may have added.
        assert last == pytest.approx(score, rel=1e-8)


def test_no_bound_is_infinite() -> None:
    probabilities, labels, order = random_table(0)
    tally = METRICS["calibration_error"].bound(labels, 4)
    tally.add(order, probabilities[order])
    assert tally.best_possible() == float("inf")
