"""Candidates judged in several processes: the soups of one process, to the bit."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soups.core.errors import DataError, EnvironmentFailure
from soups.pipeline.soup.parallel_judge import ParallelJudge, WorkerEnv, start_worker
from soups.recipes.greedy import greedy
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from soups.runtime.workers import WorkerPool

IMAGES = 40
State = dict[str, torch.Tensor]


class ToyJudge:
    """Image i is right where weight i is near 0; an image takes a while, and each verdict leaves a mark."""

    def __init__(self, marks: Path | None = None, number: int = 0) -> None:
        self.marks, self.number = marks, number

    def __call__(self, state: State, accept: Any = None) -> Verdict:
        wrong = (state["w"].double().abs() > 0.5).numpy()
        seen = 0
        for seen in range(1, IMAGES + 1):
            outcome = np.where(np.arange(IMAGES) < seen, ~wrong, -1).astype(np.int8)
            errors = int(wrong[:seen].sum())
            verdict = Verdict((IMAGES - errors) / IMAGES, errors, seen, seen == IMAGES, errors / IMAGES, outcome)
            if accept is not None and seen < IMAGES and not accept.allows(verdict):
                break
            time.sleep(0.001 if self.marks is not None else 0)
        if self.marks is not None:
            (self.marks / f"{self.number}-{os.getpid()}-{time.monotonic_ns()}-{seen}").touch()
        return verdict


def load(seed: int, index: int) -> State:
    if index == 99:
        raise DataError("m99: changed since it was logged")
    if index == 98:
        os._exit(9)
    generator = np.random.default_rng([seed, index])
    return {"w": torch.tensor(generator.normal(scale=0.7, size=IMAGES)).float(), "n": torch.tensor(index)}


def toy_pool(seed: int, indices: tuple[int, ...]) -> Pool:
    parts = []
    for index in indices:
        score = ToyJudge()(load(seed, index)).score if index < 98 else -1.0
        parts.append(Ingredient(f"m{index}", f"{index * 7 % 13:02d}{index}", score, 0.0, partial(load, seed, index)))
    return Pool(tuple(parts))


def toy_env(marks: Path, seed: int, indices: tuple[int, ...], number: int) -> WorkerEnv:
    return WorkerEnv(toy_pool(seed, indices), ToyJudge(marks, number))


def test_two_processes_give_the_soups_and_the_errors_of_one(tmp_path: Path) -> None:
    seed, indices = 0, tuple(range(9))
    make_env = partial(toy_env, tmp_path, seed, (*indices, 98, 99))
    with WorkerPool(2, partial(start_worker, make_env)) as workers:
        judge = ParallelJudge(ToyJudge(), workers, 2)
        assert judge.marks is None  # What the judge itself has is passed on.
        for accept in ("equal", "significant"):
            options = {"accept": accept, "level": 0.4}
            expected = greedy(toy_pool(seed, indices), ToyJudge(), **options)
            assert 1 < len(expected.ingredients) < 9
            soup = greedy(toy_pool(seed, indices), judge, **options)
            assert soup.decisions == expected.decisions and soup.score == expected.score
            assert all(torch.equal(soup.state[key], expected.state[key]) for key in soup.state)
            soup = greedy(toy_pool(seed, indices), BudgetedJudge(judge, 3), **options)
            assert soup.decisions == expected.decisions[:3] and len(soup.options["untried"]) == 6
        marks = [path.name.split("-") for path in tmp_path.iterdir()]
        assert {mark[0] for mark in marks} == {"0", "1"} and len({mark[1] for mark in marks}) == 2
        assert str(os.getpid()) not in {mark[1] for mark in marks}
        decisions: list[dict[str, Any]] = []
        with pytest.raises(DataError, match="m99: changed since it was logged"):
            greedy(toy_pool(seed, (*indices, 99)), judge, on_decision=decisions.append)
        assert len(decisions) == 9  # All before it.
        assert len(greedy(toy_pool(seed, indices), judge).decisions) == 9
        with pytest.raises(EnvironmentFailure, match=r"ended without an error(?s:.*)judge fewer candidates at once"):
            greedy(toy_pool(seed, (*indices, 98)), judge)
