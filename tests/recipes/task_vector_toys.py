"""Toy pools with a start, a judge and slow references for recipes on task vectors."""

from collections.abc import Sequence

import numpy as np
import torch

from soups.recipes.shared.pool import Ingredient, Pool, Soup, Verdict

State = dict[str, torch.Tensor]
Arrays = dict[str, np.ndarray]
SHAPES = {"m": (3, 4), "v": (5,), "s": ()}
NEED_START = ("wise_ft", "model_stock", "task_arithmetic", "ties", "dare")
VARIANTS = [(name, {}) for name in NEED_START] + [("dare", {"combine": "ties", "density": 0.5})]


def random_state(seed: int, dtype: torch.dtype, counter: int, near: State | None = None) -> State:
    rng = np.random.default_rng(seed)
    state = {key: torch.tensor(rng.normal(size=shape), dtype=dtype) for key, shape in SHAPES.items()}
    if near is not None:
        state = {key: (near[key] + 0.5 * value + 0.3).to(dtype) for key, value in state.items()}
    return {**state, "counter": torch.tensor(counter)}


def make_pool(seed: int, number: int, dtype: torch.dtype = torch.float32) -> Pool:
    start = random_state(1000 + seed, dtype, 99)
    ingredients = []
    for index in range(number):
        state = random_state(100 * seed + index, dtype, index, start)
        # The order by hash is not the order of names.
        ingredients.append(Ingredient(f"m{index}", f"{9 - index}a", 0.5, 1.0, lambda state=state: state, mapped=True))
    return Pool(tuple(ingredients), Ingredient("start", "00", 0.1, 2.0, lambda: start, mapped=True))


def judge(state: State, accept: object = None) -> Verdict:
    """Score by the distance to one point, coarse enough for ties."""
    distance = float((state["m"].double() - 0.4).abs().mean())
    errors = min(20, int(distance * 20))
    return Verdict(1 - errors / 20, errors, 20)


def arrays(ingredient: Ingredient) -> Arrays:
    return {key: ingredient.load()[key].double().numpy() for key in SHAPES}


def by_hash(pool: Pool) -> list[Ingredient]:
    return sorted(pool.ingredients, key=lambda ingredient: ingredient.sha256)


def tasks_of(pool: Pool) -> list[Arrays]:
    assert pool.start is not None
    start = arrays(pool.start)
    return [{key: arrays(i)[key] - start[key] for key in SHAPES} for i in by_hash(pool)]


def close(soup: Soup, pool: Pool, direction: Arrays, scale: float = 1.0) -> None:
    assert pool.start is not None
    for key, value in arrays(pool.start).items():
        np.testing.assert_allclose(
            soup.state[key].double().numpy(), value + scale * direction[key], rtol=2e-6, atol=1e-6
        )
    assert soup.state["counter"].item() == by_hash(pool)[0].load()["counter"].item()
    assert soup.score == judge(soup.state).score


def mean_task(tasks: Sequence[Arrays]) -> Arrays:
    return {key: sum(task[key] for task in tasks) / len(tasks) for key in SHAPES}


def elect(tasks: Sequence[Arrays], density: float) -> Arrays:
    """Algorithm 1 of the TIES paper, number by number."""
    flat = [np.concatenate([task[key].ravel() for key in SHAPES]) for task in tasks]
    remaining = max(1, round(density * flat[0].size))
    for vector in flat:
        smallest = sorted(abs(value) for value in vector)[-remaining]
        vector[np.abs(vector) < smallest] = 0.0
    merged = np.zeros(flat[0].size)
    for position in range(merged.size):
        values = [vector[position] for vector in flat]
        sign = np.sign(sum(values))
        agreeing = [value for value in values if np.sign(value) == sign and sign != 0]
        merged[position] = sum(agreeing) / len(agreeing) if agreeing else 0.0
    result, used = {}, 0
    for key, shape in SHAPES.items():
        size = int(np.prod(shape))
        result[key] = merged[used : used + size].reshape(shape)
        used += size
    return result
