"""The judge of a run: built once, when the first verdict is requested."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from soups.pipeline.soup import batchnorm
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from tests.pipeline.small_run import make_context, make_run


class BuiltJudge:
    """Counts its instances and keeps the errors of the pool's models on each image."""

    made: list["BuiltJudge"]

    def __init__(self, *arguments: Any) -> None:
        self.mistakes = arguments[-1]
        self.made.append(self)

    def __call__(self, state: Any, accept: Any = None) -> str:
        return "verdict"

    def fisher(self, state: Any, seed: int) -> int:
        return seed


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    BuiltJudge.made = []
    images = SimpleNamespace(images=np.zeros((2, 4, 4, 3), dtype=np.uint8))
    monkeypatch.setattr("soups.evaluation.judge.ValidationJudge", BuiltJudge)
    monkeypatch.setattr("soups.models.build.build_empty", lambda *arguments: None)
    monkeypatch.setattr("soups.pipeline.soup.judge.MemoryCachedImages", lambda pixels: pixels)
    monkeypatch.setattr("soups.pipeline.soup.judge.replace", lambda found, **changes: found)
    monkeypatch.setattr("soups.pipeline.score.context.RunContext.open_set", lambda context, name, card: images)
    monkeypatch.setattr(batchnorm, "choose_batchnorm", lambda *arguments: {"statistics": arguments[-1]})
    return make_context(make_run(tmp_path))


def test_the_judge_is_built_with_the_first_verdict_and_once(context: Any) -> None:
    judge = LazyJudge(context, pool_of(context, scored=False), "average")
    state = {"w": torch.zeros(3)}
    assert judge.with_batchnorm(state) is state and BuiltJudge.made == [] and judge.statistics == {}
    assert judge(state) == "verdict" and judge.fisher(state, 7) == 7
    assert len(BuiltJudge.made) == 1 and judge.statistics == {"statistics": "average"}
    assert BuiltJudge.made[0].mistakes is None  # No model has a logged verdict.


def test_the_judge_knows_how_many_models_are_wrong_on_each_image(context: Any) -> None:
    _, card = pool_of(context, scored=False)
    outcomes = {"a": [1, 0], "b": [0, 0]}
    parts = [
        Ingredient(name, name, 0.5, 1.0, dict, known_verdict=lambda row=row: Verdict(0.5, 1, 2, outcome=np.array(row)))
        for name, row in outcomes.items()
    ]
    LazyJudge(context, (Pool(tuple(parts)), card))({})
    assert BuiltJudge.made[0].mistakes.tolist() == [1, 2]
