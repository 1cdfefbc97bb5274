"""What recipes share that need no start: bits, order, memory and errors."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from soups.core.errors import DataError
from soups.recipes.greedy import greedy
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Soup
from soups.recipes.uniform import uniform

State = dict[str, torch.Tensor]
STARTLESS = {name: RECIPES[name] for name in ("uniform", "greedy", "greedy_log_loss", "pruned", "top_k")}


@pytest.mark.parametrize("name", sorted(STARTLESS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_order_of_the_pool_gives_the_same_bits(name: str, dtype: torch.dtype, toys: Any) -> None:
    for seed in range(12):
        pool, judge = toys.pool(seed, dtype)
        soups = [
            STARTLESS[name](Pool(order), judge)
            for order in itertools.islice(itertools.permutations(pool.ingredients), 12)
        ]
        soups.append(STARTLESS[name](Pool(pool.ingredients[::-1]), judge))
        for soup in soups:
            assert soup.state.keys() == soups[0].state.keys()
            assert all(torch.equal(soup.state[key], soups[0].state[key]) for key in soup.state)
            assert soup.state["w"].dtype == dtype
            assert soup.ingredients == soups[0].ingredients and soup.decisions == soups[0].decisions


def test_ingredients_of_a_soup_are_in_canonical_order(toys: Any) -> None:
    pool, judge = toys.pool(5)
    for recipe in STARTLESS.values():
        digests = [ingredient.sha256 for ingredient in recipe(pool, judge).ingredients]
        assert digests == sorted(digests)


def test_integer_buffers_come_from_the_first_by_hash(toys: Any) -> None:
    states = {
        name: toys.state([0.0] * toys.images, counter=counter) for name, counter in (("x", 5), ("y", 3), ("z", 4))
    }
    ingredients = tuple(
        Ingredient(name, digest, 1.0, 0.0, lambda name=name: states[name])
        for name, digest in (("x", "bb"), ("y", "cc"), ("z", "aa"))
    )
    for recipe in STARTLESS.values():
        soup = recipe(Pool(ingredients), toys.zero)  # All are equal: pruned keeps only one.
        assert soup.state["counter"].item() == states[soup.ingredients[0].name]["counter"].item()
    assert uniform(Pool(ingredients), toys.zero).state["counter"].item() == 4


def test_one_ingredient_is_in_memory_at_a_time(toys: Any) -> None:
    import weakref

    alive: list[weakref.ref] = []
    most = 0

    def load(index: int) -> State:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in alive))
        state = toys.state([0.1 * index] * toys.images)
        alive.append(weakref.ref(state["w"]))
        return state

    pool = Pool(tuple(Ingredient(f"m{i}", f"{i}", 1 - i / 9, 0.0, lambda i=i: load(i)) for i in range(6)))
    for name, recipe in STARTLESS.items():
        alive.clear()
        most = 0
        recipe(pool, toys.zero)
        assert len(alive) >= 6 and most == 0, name


def test_ingredients_do_not_change(toys: Any) -> None:
    for seed in range(20):
        pool, judge = toys.pool(seed, torch.float64 if seed % 2 else torch.float32)
        before = [{key: value.clone() for key, value in i.load().items()} for i in pool.ingredients]
        for recipe in STARTLESS.values():
            for tensor in recipe(pool, judge).state.values():
                tensor.zero_()
        for ingredient, copy in zip(pool.ingredients, before, strict=True):
            assert all(torch.equal(value, copy[key]) for key, value in ingredient.load().items())


@pytest.mark.parametrize("recipe", [greedy, uniform])
def test_mapped_ingredients_give_the_same_bits(recipe: Callable[..., Soup], toys: Any) -> None:
    for seed in range(20):
        pool, judge = toys.pool(seed)
        mapped = Pool(tuple(dataclasses.replace(ingredient, mapped=True) for ingredient in pool.ingredients))
        one, other = recipe(pool, judge), recipe(mapped, judge)
        assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)


@pytest.mark.parametrize("name", sorted(STARTLESS))
def test_a_tensor_that_does_not_fit_is_named(name: str, toys: Any) -> None:
    odd = Ingredient("odd", "zz", 0.0, 0.0, lambda: toys.state([0.0] * 5))
    pool = Pool((toys.named("good", [0.0] * toys.images, toys.zero), odd))
    with pytest.raises(DataError, match=r"odd: tensor 'w' does not fit good(?s:.*)\(6,\)(?s:.*)\(5,\)"):
        STARTLESS[name](pool, toys.zero)
