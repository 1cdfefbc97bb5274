"""Toy pools and judges for recipes that select models."""

import numpy as np
import torch

from soups.recipes.shared.pool import Accept, Ingredient, Pool, Verdict

State = dict[str, torch.Tensor]
IMAGES = 8


def judge(state: State, accept: Accept | None = None) -> Verdict:
    """Image i is right if weight i is near 0; stops as soon as rejection is certain."""
    off = state["w"].double().abs().numpy()
    for seen in range(1, IMAGES + 1):
        errors, loss = int((off[:seen] > 0.5).sum()), float(np.round(off[:seen]).sum()) / IMAGES
        verdict = Verdict((IMAGES - errors) / IMAGES, errors, seen, seen == IMAGES, loss)
        if accept is not None and not verdict.complete and not accept.allows(verdict):
            break
    return verdict


def judge_fully(state: State, accept: Accept | None = None) -> Verdict:
    """Judge on all images, without early stopping."""
    return judge(state)


def make_pool(seed: int, number: int | None = None, dtype: torch.dtype = torch.float32) -> Pool:
    rng = np.random.default_rng(seed)
    ingredients = []
    for index in range(int(rng.integers(1, 8)) if number is None else number):
        weights = torch.tensor(rng.normal(scale=0.8, size=IMAGES), dtype=dtype)
        state = {"w": weights, "m": torch.tensor(rng.normal(size=(2, 3)), dtype=dtype), "n": torch.tensor(index)}
        loss, digest = float(rng.integers(0, 3)), f"{rng.integers(0, 2**32):08x}"
        ingredients.append(Ingredient(f"m{index}", digest, judge(state).score, loss, lambda state=state: state))
    return Pool(tuple(ingredients))


def mean(ingredients: list[Ingredient]) -> np.ndarray:
    return np.mean([i.load()["w"].double().numpy() for i in ingredients], axis=0)


def mean_verdict(ingredients: list[Ingredient]) -> Verdict:
    return judge({"w": torch.tensor(mean(ingredients)).float()})


def sort_by_score(pool: Pool) -> list[Ingredient]:
    return sorted(pool.ingredients, key=lambda i: (-i.score, i.log_loss, i.name))


def pool_of_two(one: State, other: State) -> Pool:
    return Pool((Ingredient("one", "a", 0.5, 1.0, lambda: one), Ingredient("other", "b", 0.5, 1.0, lambda: other)))
