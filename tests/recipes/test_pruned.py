"""The pruned soup against a slow reference."""

import dataclasses
import itertools
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from soups.core.errors import UsageError
from soups.recipes.pruned import pruned
from soups.recipes.shared.pool import Accept, Ingredient, Pool, Soup, Verdict
from soups.recipes.top_k import top_k
from tests.recipes.selection_toys import (
    IMAGES,
    State,
    judge,
    judge_fully,
    make_pool,
    mean,
    mean_verdict,
    pool_of_two,
    sort_by_score,
)


@pytest.mark.parametrize("ties", ["log_loss", "accept"])
def test_pruned_equals_brute_force(ties: str) -> None:
    sizes = set()
    for seed in range(80):
        pool = make_pool(seed)
        left, best = sort_by_score(pool)[::-1], mean_verdict(list(pool.ingredients))
        changed = True
        while changed:
            changed = False
            for candidate in list(left):
                others = [i for i in left if i is not candidate]
                new = mean_verdict(others) if others else best
                tied = new.score == best.score and (ties == "accept" or new.log_loss <= best.log_loss)
                if others and (new.score > best.score or tied):
                    left, best, changed = others, new, True
        seen: list[dict] = []
        soup = pruned(pool, judge, on_decision=seen.append, ties=ties)
        assert {i.name for i in soup.ingredients} == {i.name for i in left}, seed
        assert pruned(pool, judge_fully, ties=ties).ingredients == soup.ingredients
        np.testing.assert_allclose(soup.state["w"].numpy(), mean(left), rtol=1e-6, atol=1e-7)
        assert soup.score == best.score == judge(soup.state).score
        assert soup.coefficients == pytest.approx([1 / len(left)] * len(left))
        assert tuple(seen) == soup.decisions and seen[0]["candidate"] == "all"
        dropped = {line["candidate"].removeprefix("without ") for line in seen[1:] if line["accepted"]}
        assert dropped == {i.name for i in pool.ingredients} - {i.name for i in left}
        sizes.add(len(left))
    assert len(sizes) > 3


def test_equal_scores_are_decided_by_the_log_loss() -> None:
    steady, wild = pool_of_two({"w": torch.full((IMAGES,), 0.4)}, {"w": torch.full((IMAGES,), -0.4)}).ingredients
    pool = Pool((steady, wild, Ingredient("third", "c", 1.0, 1.0, lambda: {"w": torch.full((IMAGES,), 1.2)})))
    lines = pruned(pool, judge).decisions
    assert lines[-1]["why"] == "as good without it" and lines[-1]["accepted"]

    def unsure(state: State, accept: Accept | None = None) -> Verdict:
        return Verdict(1.0, 0, IMAGES, True, float(state["w"].abs().mean()))

    soup = pruned(Pool((steady, wild)), unsure)
    assert len(soup.ingredients) == 2 and soup.decisions[-1]["why"] == "as good without it, but the log-loss is higher"
    assert len(pruned(Pool((steady, wild)), unsure, ties="accept").ingredients) == 1
    with pytest.raises(UsageError, match=r"pruned: ties(?s:.*)log_loss or accept"):
        pruned(pool, judge, ties="never")


@pytest.mark.parametrize("recipe", [pruned, top_k])
def test_no_set_is_judged_twice(recipe: Callable[..., Soup]) -> None:
    again = 0
    for seed in range(50):
        judged: list[bytes] = []

        def recording(state: State, accept: Accept | None = None, judged: list[bytes] = judged) -> Verdict:
            judged.append(state["w"].numpy().tobytes())
            return judge(state, accept)

        parts = [dataclasses.replace(i, known_verdict=lambda i=i: judge(i.load())) for i in make_pool(seed).ingredients]
        recipe(Pool(tuple(parts)), recording)
        singles = {part.load()["w"].numpy().tobytes() for part in parts}
        assert len(set(judged)) == len(judged) and not singles & set(judged)
        again += len(judged)
    assert again > 50


@pytest.mark.parametrize("recipe", [pruned, top_k])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_order_gives_the_same_bits_with_one_model_in_memory(recipe: Callable, dtype: torch.dtype) -> None:
    alive: list[weakref.ref] = []
    most = 0

    def loader(ingredient: Ingredient) -> Callable[[], State]:
        def load() -> State:
            nonlocal most
            most = max(most, sum(reference() is not None for reference in alive))
            state = {key: value.clone() for key, value in ingredient.load().items()}
            alive.append(weakref.ref(state["w"]))
            return state

        return load

    plain = make_pool(9, 5, dtype)
    parts = tuple(Ingredient(i.name, i.sha256, i.score, i.log_loss, loader(i)) for i in plain.ingredients)
    soups = [recipe(Pool(order), judge) for order in itertools.islice(itertools.permutations(parts), 0, 120, 7)]
    for soup in soups:
        assert all(torch.equal(soup.state[key], soups[0].state[key]) for key in soup.state)
        assert soup.decisions == soups[0].decisions and soup.state["w"].dtype == dtype
    assert len(alive) > 5 and most == 0
