"""The registry of metrics: directions, and vote scores against the scores of the votes' tables."""

import numpy as np
import pytest

from soups.core import scores
from soups.core.metrics import METRICS, Metric, all_scores


def test_higher_scores_are_better_for_every_metric() -> None:
    good, bad = np.array([[0.9, 0.1]]), np.array([[0.4, 0.6]])
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.score(good, np.array([0])) > metric.score(bad, np.array([0])), name
    assert Metric("x", scores.log_loss, higher_is_better=False).score(good, np.array([0])) < 0


@pytest.mark.parametrize("name", list(METRICS))
def test_the_vote_score_equals_the_score_of_the_table(name: str) -> None:
    rng = np.random.default_rng(0)
    table, labels = rng.dirichlet(np.ones(4), size=50), rng.integers(0, 3, 50)
    vote_score = METRICS[name].vote_score
    assert vote_score is not None
    found = vote_score(scores.predictions(table), labels, table.max(axis=1), scores.log_loss(table, labels))
    assert found == pytest.approx(METRICS[name].score(table, labels), abs=1e-12)


def test_all_scores_lists_every_metric_in_order() -> None:
    found = all_scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    assert list(found) == list(METRICS)
    assert found["accuracy"] == 1.0
