"""Recipes with early stopping choose the same as with full evaluation of every candidate, for every metric."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from soups.core.metrics import METRICS
from soups.core.preprocessing import Preprocessing
from soups.core.scores import log_loss, predictions, softmax
from soups.evaluation.judge import ValidationJudge
from soups.evaluation.logits import EvaluationSet
from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.pruned import pruned
from soups.recipes.shared.acceptance import sign_test
from soups.recipes.shared.pool import Ingredient, Pool, Soup, Verdict
from soups.recipes.top_k import top_k
from soups.runtime.devices import Runtime

IMAGES, CLASSES = 30, 4
PREPROCESSING = Preprocessing(size=2, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
METRIC_NAMES = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
RULES: dict[str, Callable[..., Soup]] = {
    "equal": partial(greedy, accept="equal"),
    "better": partial(greedy, accept="better"),
    "significant": partial(greedy, accept="significant", level=0.3),
    "ties": greedy,
    "loss": greedy_log_loss,
}


class Pixels:
    """Images in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


class Task:
    """Random images, a linear network and fine-tunes of one start, some of them equal."""

    def __init__(self, seed: int, metric: str) -> None:
        self.rng, self.metric = np.random.default_rng(seed), metric
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES))
        self.pixels = self.rng.integers(0, 256, (IMAGES, 2, 2, 3), dtype=np.uint8)
        best = self.rng.normal(size=(CLASSES, 12))
        sure = (self.inputs() @ best.T + self.rng.gumbel(scale=2, size=(IMAGES, CLASSES))).argmax(axis=1)
        self.labels = np.minimum(sure, self.rng.integers(1, CLASSES))  # Some classes may not occur.
        number, noise = int(self.rng.integers(1, 7)), float(self.rng.choice([0.3, 1.0, 3.0]))
        kinds = [self.state(best + noise * self.rng.normal(size=best.shape)) for _ in range(max(1, number - 1))]
        self.mistakes = self.rng.integers(0, 5, IMAGES)  # Decides which images share a batch.
        self.pool = Pool(tuple(self.ingredient(index, kinds[index % len(kinds)]) for index in range(number)))

    def inputs(self) -> np.ndarray:
        """(N, 12) float64, as the network flattens them."""
        return ((self.pixels / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).reshape(IMAGES, 12)

    def state(self, weight: np.ndarray) -> dict[str, torch.Tensor]:
        return {"1.weight": torch.tensor(weight).float(), "1.bias": torch.zeros(CLASSES)}

    def judge(self) -> ValidationJudge:
        images: Any = Pixels(self.pixels)
        validation = EvaluationSet("val", images, self.labels, np.array(["g"] * IMAGES), (Path("x"),) * IMAGES)
        runtime = Runtime(precision="fp32", threads=1)
        return ValidationJudge(self.network, validation, PREPROCESSING, self.metric, runtime, 8, self.mistakes)

    def judge_without_stopping(self) -> Callable[..., Verdict]:
        """Return a judge that always scores all images."""
        judge = self.judge()
        return lambda state, accept=None: judge(state)

    def ingredient(self, index: int, state: dict[str, torch.Tensor]) -> Ingredient:
        score, loss, _ = self.result([state])
        return Ingredient(f"m{index}", f"{self.rng.integers(0, 2**32):08x}{index}", score, loss, lambda: state)

    def result(self, states: list[dict[str, torch.Tensor]]) -> tuple[float, float, np.ndarray]:
        """Score, log-loss and right predictions of a mean of states, in float64, all images at once."""
        weight = np.mean([state["1.weight"].double().numpy() for state in states], axis=0)
        table = softmax(self.inputs() @ np.float32(weight).astype(np.float64).T)
        loss = log_loss(table, self.labels)
        return METRICS[self.metric].score(table, self.labels), loss, predictions(table) == self.labels

    def brute_force(self, rule: str) -> set[str] | None:
        """Names of the greedy soup; None where two results differ by so little that rounding may decide."""
        order = sorted(self.pool.ingredients, key=lambda part: (-part.score, part.log_loss, part.name))
        kept, (score, loss, right) = [order[0]], self.result([order[0].load()])
        for candidate in order[1:]:
            new_score, new_loss, new_right = self.result([part.load() for part in (*kept, candidate)])
            if any(0 < abs(gap) < 1e-6 for gap in (new_score - score, new_loss - loss)):
                return None
            gained, lost = int((new_right & ~right).sum()), int((right & ~new_right).sum())
            accepted = {
                "equal": new_score >= score,
                "better": new_score > score,
                "significant": new_score > score and sign_test(gained, lost) <= 0.3,
                "ties": new_score > score or (new_score == score and new_loss <= loss),
                "loss": new_loss <= loss,
            }[rule]
            if accepted:
                kept.append(candidate)
                score, loss, right = new_score, new_loss, new_right
        return {part.name for part in kept}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_greedy_with_stopping_equals_brute_force(metric: str) -> None:
    sizes, seen, compared = set(), [], 0
    for seed, (rule, recipe) in itertools.product(range(6), RULES.items()):
        task = Task(seed, metric)
        names = task.brute_force(rule)
        soup, whole = recipe(task.pool, task.judge()), recipe(task.pool, task.judge_without_stopping())
        assert soup.ingredients == whole.ingredients and soup.score == whole.score, (seed, rule)
        assert soup.summary == whole.summary and all(line["complete"] for line in whole.decisions)
        assert all(torch.equal(soup.state[key], whole.state[key]) for key in soup.state)
        if names is not None:
            assert {part.name for part in soup.ingredients} == names, (seed, rule)
            compared += 1
        sizes.add(len(soup.ingredients))
        seen += [line["images"] for line in soup.decisions if not line["complete"]]
    assert compared > 20 and len(sizes) > 2 and len(seen) > 10, (compared, sizes, seen)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_every_order_of_the_pool_gives_the_same_soup(metric: str) -> None:
    for seed in range(3):
        task = Task(seed, metric)
        for parts in itertools.islice(itertools.permutations(task.pool.ingredients), 0, 24, 5):
            judge = task.judge()
            soup = greedy(Pool(parts), judge)
            first = greedy(task.pool, judge)  # By then it looks at the images in another order.
            assert soup.ingredients == first.ingredients
            assert all(torch.equal(soup.state[key], first.state[key]) for key in soup.state)


@pytest.mark.parametrize("recipe", [pruned, top_k])
@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_pruned_and_top_k_with_early_stopping_choose_the_same(metric: str, recipe: Callable[..., Soup]) -> None:
    stopped = 0
    for seed in range(6):
        task = Task(seed, metric)
        soup = recipe(task.pool, task.judge())
        whole = recipe(task.pool, task.judge_without_stopping())
        assert (soup.ingredients, soup.score, soup.summary) == (whole.ingredients, whole.score, whole.summary), seed
        stopped += sum(not line["complete"] for line in soup.decisions)
    assert stopped > 0
