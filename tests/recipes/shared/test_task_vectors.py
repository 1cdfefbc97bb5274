"""What recipes on task vectors share: order, memory, sweeps, errors."""

import itertools
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from tests.recipes.task_vector_toys import NEED_START, SHAPES, VARIANTS, State, arrays, judge, make_pool


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_order_gives_the_same_bits(name: str, options: dict, dtype: torch.dtype) -> None:
    pool = make_pool(3, 4, dtype)
    soups = [
        RECIPES[name](Pool(order, pool.start), judge, **options) for order in itertools.permutations(pool.ingredients)
    ]
    for soup in soups:
        assert all(torch.equal(soup.state[key], soups[0].state[key]) for key in soups[0].state)
        assert all(soup.state[key].dtype == dtype for key in SHAPES) and soup.state["counter"].item() == 3
        assert soup.decisions == soups[0].decisions and soup.coefficients == soups[0].coefficients
        assert [i.sha256 for i in soup.ingredients] == sorted(i.sha256 for i in pool.ingredients)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_one_ingredient_is_in_memory_and_none_changes(name: str, options: dict) -> None:
    pool = make_pool(4, 5)
    alive: list[weakref.ref] = []
    most = 0

    def loader(ingredient: Ingredient) -> Callable[[], State]:
        def load() -> State:
            nonlocal most
            state = {key: value.clone() for key, value in ingredient.load().items()}
            most = max(most, sum(reference() is not None for reference in alive))
            alive.append(weakref.ref(state["m"]))
            return state

        return load

    parts = tuple(Ingredient(i.name, i.sha256, 0.5, 1.0, loader(i)) for i in pool.ingredients)
    before = {i.name: arrays(i)["m"].copy() for i in pool.ingredients}
    soup = RECIPES[name](Pool(parts, pool.start), judge, **options)
    assert len(alive) >= 5 and most == 0
    for tensor in soup.state.values():
        tensor.zero_()
    assert all(np.array_equal(arrays(i)["m"], before[i.name]) for i in pool.ingredients)
    assert pool.start is not None and pool.start.load()["m"].abs().sum() > 0


@pytest.mark.parametrize("name", ["wise_ft", "task_arithmetic", "ties", "dare"])
def test_sweeps_take_the_best_and_the_plain_mean_of_equals(name: str) -> None:
    option = "alpha" if name == "wise_ft" else "scale"
    for seed in range(10):
        pool, seen = make_pool(seed, 3), []
        soup = RECIPES[name](pool, judge, on_decision=seen.append)
        assert tuple(seen) == soup.decisions and len(seen) == (11 if name == "wise_ft" else 9)
        first = max(seen, key=lambda line: line["score"])  # max takes the first among equals.
        assert first["candidate"] == f"{option}={soup.options[option]:g}" and soup.score == first["score"]
        assert [line for line in seen if line["accepted"]][-1] == first
    flat = RECIPES[name](pool, lambda state, accept=None: Verdict(0.5, 1, 2))
    assert flat.options[option] == pytest.approx(1 / 3 if name == "task_arithmetic" else 1)
    fixed = RECIPES[name](pool, judge, **{option: 0.5})
    assert len(fixed.decisions) == 1 and fixed.options[option] == 0.5


@pytest.mark.parametrize("name", NEED_START)
def test_the_error_without_a_start_says_how_to_name_it(name: str) -> None:
    pool = Pool(make_pool(0, 2).ingredients)
    with pytest.raises(DataError, match=rf"{name}: the file of the models' common start is missing(?s:.*)_start.safe"):
        RECIPES[name](pool, judge)


@pytest.mark.parametrize("name", NEED_START)
def test_errors_name_the_tensor_that_does_not_fit(name: str) -> None:
    pool = make_pool(0, 2)
    odd = Ingredient("odd", "zz", 0.5, 1.0, lambda: {**pool.ingredients[0].load(), "v": torch.zeros(4)})
    with pytest.raises(DataError, match=r"odd: tensor 'v' does not fit start"):
        RECIPES[name](Pool((*pool.ingredients, odd), pool.start), judge)
    broken = Ingredient(
        "broken", "zz", 0.5, 1.0, lambda: {**pool.ingredients[0].load(), "v": torch.full((5,), torch.nan)}
    )
    with pytest.raises(DataError, match="broken: tensor 'v' holds NaN"):
        RECIPES[name](Pool((*pool.ingredients, broken), pool.start), judge)
    with pytest.raises(DataError, match="broken: tensor 'v' holds NaN"):
        RECIPES[name](Pool(pool.ingredients, broken), judge)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("wise_ft", {"alpha": 1.5}, r"wise_ft: alpha(?s:.*)\[0, 1\](?s:.*)1.5"),
        ("wise_ft", {"alphas": ()}, "wise_ft: alpha(?s:.*)at least one"),
        ("task_arithmetic", {"scale": float("nan")}, "task_arithmetic: scale(?s:.*)finite"),
        ("ties", {"density": 0.0}, r"ties: density(?s:.*)\(0, 1\]"),
        ("dare", {"drop": 1.0}, r"dare: drop(?s:.*)\[0, 1\)"),
        ("dare", {"combine": "tie"}, "unknown way to combine 'tie'(?s:.*)did you mean 'ties'"),
    ],
)
def test_options_out_of_range(name: str, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RECIPES[name](make_pool(0, 2), judge, **options)


@pytest.mark.parametrize("name", NEED_START)
def test_the_error_for_different_starts_names_two(name: str) -> None:
    pool = Pool(make_pool(0, 2).ingredients, start_problem="m0 came from 12ab…, m1 from 34cd…")
    with pytest.raises(DataError, match=rf"{name}: the models come from different starts(?s:.*)m0 came from 12ab…"):
        RECIPES[name](pool, judge)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_with_all_options_fixed_no_judge_is_needed(name: str, options: dict) -> None:
    pool = make_pool(2, 3)
    chosen = RECIPES[name](pool, judge, **options)
    again = RECIPES[name](pool, None, **chosen.options)
    assert again.score is None and again.decisions == ()
    assert again.options == chosen.options and again.coefficients == chosen.coefficients
    assert all(torch.equal(again.state[key], chosen.state[key]) for key in chosen.state)
