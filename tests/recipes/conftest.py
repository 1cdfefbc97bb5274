"""Toy pools and judges for recipes, in which ties are frequent."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from soups.recipes.shared.pool import Accept, Ingredient, Pool, Verdict

State = dict[str, torch.Tensor]
IMAGES = 6


def toy_state(values: Sequence[float], dtype: torch.dtype = torch.float32, counter: int = 0) -> State:
    return {"w": torch.tensor(values, dtype=dtype), "b": torch.zeros(2, dtype=dtype), "counter": torch.tensor(counter)}


def toy_judge(target: np.ndarray) -> Callable[..., Verdict]:
    """Image i is right where weight i is near the target: few levels, so that ties are frequent.

    It stops, image by image, as soon as acceptance is ruled out. Its log-loss has few levels too.
    """

    def judge(state: State, accept: Accept | None = None) -> Verdict:
        off = np.abs(state["w"].double().numpy() - target)
        right, losses = (off <= 0.6).astype(np.int8), np.round(off)
        for seen in range(1, IMAGES):
            outcome = np.where(np.arange(IMAGES) < seen, right, np.int8(-1))
            errors = int((outcome == 0).sum())
            best = Verdict((IMAGES - errors) / IMAGES, errors, seen, False, losses[:seen].sum() / IMAGES, outcome)
            if accept is not None and not accept.allows(best):
                return best
        errors = int((right == 0).sum())
        return Verdict((IMAGES - errors) / IMAGES, errors, IMAGES, True, losses.sum() / IMAGES, right)

    return judge


def make_pool(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Pool, Callable[..., Verdict]]:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=IMAGES)
    judge = toy_judge(target)
    ingredients = []
    kinds = int(rng.integers(1, 7))
    for index in range(int(rng.integers(1, 7))):
        # Sometimes the same weights twice: candidates that change nothing.
        generator = np.random.default_rng([seed, index % kinds])
        state = toy_state((target + generator.normal(scale=0.8, size=IMAGES)).tolist(), dtype, counter=index)
        digest, verdict = f"{rng.integers(0, 2**32):08x}{index}", judge(state)
        ingredients.append(Ingredient(f"m{index}", digest, verdict.score, verdict.log_loss, lambda state=state: state))
    return Pool(tuple(ingredients)), judge


def unhurried(judge: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """The same judge, looking at all images always."""
    return lambda state, accept=None: judge(state)


def named(name: str, values: Sequence[float], judge: Callable[..., Verdict], log_loss: float = 1.0) -> Ingredient:
    state = toy_state(values)
    return Ingredient(name, f"hash of {name}", judge(state).score, log_loss, lambda: state)


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """Toy states, pools and judges, and the number of their images."""
    return SimpleNamespace(
        images=IMAGES,
        state=toy_state,
        judge=toy_judge,
        zero=toy_judge(np.zeros(IMAGES)),
        pool=make_pool,
        unhurried=unhurried,
        named=named,
    )
