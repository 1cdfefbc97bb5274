"""Votes of models, and the best model of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soups.evaluation.settings import EvaluationSettings
from soups.pipeline.score import votes
from soups.pipeline.score.context import RunContext
from tests.pipeline.small_run import make_context, make_run


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(make_run(tmp_path))


def test_a_vote_combines_the_probabilities_of_each_set(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"a": 0.2, "b": 0.6}

    def probabilities(self: RunContext, path: Path, names: list[str], space: Any = None) -> dict[str, np.ndarray]:
        return {name: np.array([[shares[path.stem], 1 - shares[path.stem]]]) for name in names}

    monkeypatch.setattr(RunContext, "probabilities", probabilities)
    found = votes.vote(context, "soft", [Path("a"), Path("b")], ["val", "test"])
    assert set(found) == {"val", "test"} and found["val"] == pytest.approx(np.array([[0.4, 0.6]]))


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "p1_epochs2"), ("log_loss", "p10_epochs2")])
def test_the_best_model_goes_by_the_metric_then_by_log_loss(
    context: RunContext, monkeypatch: pytest.MonkeyPatch, metric: str, best: str
) -> None:
    values = {"p0_epochs2": (0.8, 0.5), "p1_epochs2": (0.8, 0.4), "p10_epochs2": (0.7, 0.3)}
    lines = {
        name: {"metrics": {"val": {"accuracy": accuracy, "log_loss": loss}}}
        for name, (accuracy, loss) in values.items()
    }
    monkeypatch.setattr(votes, "evaluate_individuals", lambda context: lines)
    context = replace(context, evaluation=EvaluationSettings(metric=metric))
    assert votes.best_single(context).stem == best
