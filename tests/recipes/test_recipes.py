"""Soup recipes on toy states against brute force."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch

from soups.errors import DataError
from soups.recipes import RECIPES
from soups.recipes.greedy import greedy
from soups.recipes.pool import Accept, Ingredient, Pool, Soup, Verdict
from soups.recipes.uniform import uniform

State = dict[str, torch.Tensor]
IMAGES = 6
STARTLESS = {name: RECIPES[name] for name in ("uniform", "greedy", "pruned", "top_k")}  # For any pool at all.


def toy_state(values: Sequence[float], dtype: torch.dtype = torch.float32, counter: int = 0) -> State:
    return {"w": torch.tensor(values, dtype=dtype), "b": torch.zeros(2, dtype=dtype), "counter": torch.tensor(counter)}


def toy_judge(target: np.ndarray) -> Callable[..., Verdict]:
    """Image i is right where weight i is near the target: few levels, so that ties are frequent.

    It stops, image by image, as soon as acceptance is ruled out.
    """

    def judge(state: State, accept: Accept | None = None) -> Verdict:
        wrong = np.abs(state["w"].double().numpy() - target) > 0.6
        for seen in range(1, IMAGES):
            best = Verdict((IMAGES - int(wrong[:seen].sum())) / IMAGES, int(wrong[:seen].sum()), seen, complete=False)
            if accept is not None and not accept.allows(best):
                return best
        return Verdict((IMAGES - int(wrong.sum())) / IMAGES, int(wrong.sum()), IMAGES)

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
        log_loss = float(generator.integers(0, 3))
        digest = f"{rng.integers(0, 2**32):08x}{index}"
        ingredients.append(Ingredient(f"m{index}", digest, judge(state).score, log_loss, lambda state=state: state))
    return Pool(tuple(ingredients)), judge


def mean_of(ingredients: Sequence[Ingredient]) -> list[Fraction]:
    columns = zip(*(ingredient.load()["w"].tolist() for ingredient in ingredients), strict=True)
    return [sum(map(Fraction, column)) / len(ingredients) for column in columns]


def brute_force(pool: Pool, judge: Callable[..., Verdict], strict: bool) -> tuple[set[str], float]:
    """Algorithm 1 with exact fractions, and the order found by comparing every pair."""
    left, order = list(pool.ingredients), []
    while left:
        best = left[0]
        for other in left[1:]:
            worse = other.score < best.score
            tied = other.score == best.score
            if not worse and (not tied or (other.log_loss, other.name) < (best.log_loss, best.name)):
                best = other
        left.remove(best)
        order.append(best)
    soup = [order[0]]
    incumbent = judge(order[0].load()).score
    for candidate in order[1:]:
        mean = mean_of([*soup, candidate])
        score = judge(toy_state([float(value) for value in mean])).score
        if score > incumbent or (score == incumbent and not strict):
            soup.append(candidate)
            incumbent = score
    return {ingredient.name for ingredient in soup}, incumbent


@pytest.mark.parametrize("strict", [False, True])
def test_greedy_equals_brute_force_on_many_tiny_pools(strict: bool) -> None:
    sizes = set()
    for seed in range(400):
        pool, judge = make_pool(seed)
        names, score = brute_force(pool, judge, strict)
        soup = greedy(pool, judge, strict=strict)
        assert greedy(pool, unhurried(judge), strict=strict).ingredients == soup.ingredients
        assert ({ingredient.name for ingredient in soup.ingredients}, soup.score) == (names, score), seed
        exact = [float(value) for value in mean_of(soup.ingredients)]
        np.testing.assert_allclose(soup.state["w"].numpy(), exact, rtol=1e-6, atol=1e-7)
        assert soup.score == judge(soup.state).score
        assert soup.score >= max(ingredient.score for ingredient in pool.ingredients)
        assert soup.coefficients == pytest.approx([1 / len(names)] * len(names))
        assert soup.options == {"strict": strict}
        sizes.add(len(names))
    assert len(sizes) > 3  # The pools do exercise more than one outcome.


@pytest.mark.parametrize("name", sorted(STARTLESS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_order_of_the_pool_gives_the_same_bits(name: str, dtype: torch.dtype) -> None:
    for seed in range(25):
        pool, judge = make_pool(seed, dtype)
        soups = [
            STARTLESS[name](Pool(order), judge)
            for order in itertools.islice(itertools.permutations(pool.ingredients), 24)
        ]
        soups.append(STARTLESS[name](Pool(pool.ingredients[::-1]), judge))
        for soup in soups:
            assert soup.state.keys() == soups[0].state.keys()
            assert all(torch.equal(soup.state[key], soups[0].state[key]) for key in soup.state)
            assert soup.state["w"].dtype == dtype
            assert soup.ingredients == soups[0].ingredients and soup.decisions == soups[0].decisions


def test_canonical_order_is_by_hash() -> None:
    pool, judge = make_pool(5)
    for recipe in STARTLESS.values():
        digests = [ingredient.sha256 for ingredient in recipe(pool, judge).ingredients]
        assert digests == sorted(digests)


def named(name: str, values: Sequence[float], judge: Callable[..., Verdict], log_loss: float = 1.0) -> Ingredient:
    state = toy_state(values)
    return Ingredient(name, f"hash of {name}", judge(state).score, log_loss, lambda: state)


ZERO = toy_judge(np.zeros(IMAGES))


def test_ties_go_by_log_loss_then_name() -> None:
    same = [0.0] * IMAGES
    pool = Pool((named("b", same, ZERO, 0.5), named("c", same, ZERO, 0.2), named("a", same, ZERO, 0.5)))
    soup = greedy(pool, ZERO)
    assert [decision["candidate"] for decision in soup.decisions] == ["c", "a", "b"]
    assert [decision["accepted"] for decision in soup.decisions] == [True, True, True]
    assert [d["accepted"] for d in greedy(pool, ZERO, strict=True).decisions] == [True, False, False]


def test_scores_that_are_no_numbers_go_last_in_every_order() -> None:
    good, bad = named("a", [0.0] * IMAGES, ZERO), named("b", [9.0] * IMAGES, ZERO)
    broken = Ingredient("c", "hash of c", float("nan"), float("nan"), bad.load)
    for order in itertools.permutations((good, bad, broken)):
        assert [decision["candidate"] for decision in greedy(Pool(order), ZERO).decisions] == ["a", "b", "c"]


def test_decisions_tell_what_happened_as_it_happens() -> None:
    one, two = [0.0] * 5 + [1.0], [9.0, 9.0] + [0.0] * 3 + [-1.0]  # The mean's last weight is right.
    seen: list[dict] = []
    pool = Pool((named("one", one, ZERO), named("two", two, ZERO), named("three", [0.0] * 4 + [0.9, -0.9], ZERO)))
    soup = greedy(pool, ZERO, on_decision=seen.append)
    assert tuple(seen) == soup.decisions
    assert seen == [
        {
            "candidate": "one",
            "accepted": True,
            "score": 5 / 6,
            "incumbent": 5 / 6,
            "errors": 1,
            "images": 6,
            "complete": True,
            "why": "the best single model by validation, taken as it is",
        },
        {
            "candidate": "three",
            "accepted": True,
            "score": 1.0,
            "incumbent": 5 / 6,
            "errors": 0,
            "images": 6,
            "complete": True,
            "why": "better with it by 1 image",
        },
        {
            "candidate": "two",
            "accepted": False,
            "score": 5 / 6,  # The best that was still possible.
            "incumbent": 1.0,
            "errors": 1,
            "images": 1,
            "complete": False,
            "why": "out of reach after 1 images, 1 of them wrong",
        },
    ]
    assert soup.summary == "kept 2 of 3"


def unhurried(judge: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """The same judge, looking at all images always."""
    return lambda state, accept=None: judge(state)


def test_a_soup_of_one_says_why() -> None:
    best, far = named("best", [0.0] * IMAGES, ZERO), named("far", [0.0] * 4 + [9.0, 9.0], ZERO)
    further = named("further", [0.0] + [9.0] * 5, ZERO)
    for judge in (ZERO, unhurried(ZERO)):
        soup = greedy(Pool((far, further, best)), judge)
        assert soup.summary == "kept 1 of 3: averaged with best, each of the 2 others fell short of its score"
        assert torch.equal(soup.state["w"], best.load()["w"])
        alone = greedy(Pool((far, best)), judge).summary
        assert alone == "kept 1 of 2: averaged with best, the one other, far, fell short of its score"
        twin = named("twin", [0.0] * IMAGES, ZERO)
        assert greedy(Pool((best, twin)), judge, strict=True).summary.endswith("twin, did not improve on its score")
        assert greedy(Pool((best,)), judge).summary == "kept 1 of 1"


def test_other_metrics_tell_the_gap_in_the_score() -> None:
    def judge(state: State, accept: Accept | None = None) -> Verdict:
        return Verdict(-float(state["w"].abs().mean()), 0, IMAGES)

    pool = Pool((named("a", [0.0] * IMAGES, judge), named("b", [1.0] * IMAGES, judge)))
    assert greedy(pool, judge).decisions[1]["why"] == "worse with it by 0.5 in the score"


def test_integer_buffers_come_from_the_first_by_hash() -> None:
    states = {name: toy_state([0.0] * IMAGES, counter=counter) for name, counter in (("x", 5), ("y", 3), ("z", 4))}
    ingredients = tuple(
        Ingredient(name, digest, 1.0, 0.0, lambda name=name: states[name])
        for name, digest in (("x", "bb"), ("y", "cc"), ("z", "aa"))
    )
    for recipe in STARTLESS.values():
        soup = recipe(Pool(ingredients), ZERO)  # All are equal: pruned keeps only one.
        assert soup.state["counter"].item() == states[soup.ingredients[0].name]["counter"].item()
    assert uniform(Pool(ingredients), ZERO).state["counter"].item() == 4


def test_only_one_ingredient_is_in_memory() -> None:
    import weakref

    alive: list[weakref.ref] = []
    most = 0

    def load(index: int) -> State:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in alive))
        state = toy_state([0.1 * index] * IMAGES)
        alive.append(weakref.ref(state["w"]))
        return state

    pool = Pool(tuple(Ingredient(f"m{i}", f"{i}", 1 - i / 9, 0.0, lambda i=i: load(i)) for i in range(6)))
    for recipe in STARTLESS.values():
        recipe(pool, ZERO)
    assert len(alive) >= 12 and most == 0


def test_ingredients_are_left_alone() -> None:
    for seed in range(20):
        pool, judge = make_pool(seed, torch.float64 if seed % 2 else torch.float32)
        before = [{key: value.clone() for key, value in i.load().items()} for i in pool.ingredients]
        for recipe in STARTLESS.values():
            for tensor in recipe(pool, judge).state.values():
                tensor.zero_()
        for ingredient, copy in zip(pool.ingredients, before, strict=True):
            assert all(torch.equal(value, copy[key]) for key, value in ingredient.load().items())


@pytest.mark.parametrize("recipe", [greedy, uniform])
def test_mapped_ingredients_give_the_same_bits(recipe: Callable[..., Soup]) -> None:
    for seed in range(20):
        pool, judge = make_pool(seed)
        mapped = Pool(tuple(dataclasses.replace(ingredient, mapped=True) for ingredient in pool.ingredients))
        one, other = recipe(pool, judge), recipe(mapped, judge)
        assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)


def test_uniform_is_the_mean_judged_once() -> None:
    pool, judge = make_pool(11)
    calls: list[dict] = []
    soup = uniform(pool, judge, on_decision=calls.append)
    expected = [float(value) for value in mean_of(pool.ingredients)]
    np.testing.assert_allclose(soup.state["w"].numpy(), expected, rtol=1e-6, atol=1e-7)
    assert soup.score == judge(soup.state).score and len(soup.ingredients) == len(pool.ingredients)
    assert tuple(calls) == soup.decisions and calls[0]["accepted"] and "without choosing" in calls[0]["why"]
    assert uniform(pool, None).score is None


@pytest.mark.parametrize("name", sorted(STARTLESS))
def test_a_tensor_that_does_not_fit_is_named(name: str) -> None:
    odd = Ingredient("odd", "zz", 0.0, 0.0, lambda: toy_state([0.0] * 5))
    pool = Pool((named("good", [0.0] * IMAGES, ZERO), odd))
    with pytest.raises(DataError, match=r"odd: tensor 'w' does not fit good(?s:.*)\(6,\)(?s:.*)\(5,\)"):
        STARTLESS[name](pool, ZERO)


def test_pools_that_make_no_sense() -> None:
    one = named("one", [0.0] * IMAGES, ZERO)
    with pytest.raises(DataError, match="no ingredients"):
        Pool(())
    with pytest.raises(DataError, match="one and one have the same name"):
        Pool((one, one))
    with pytest.raises(DataError, match="one and copy are the same model twice"):
        Pool((one, Ingredient("copy", one.sha256, 1.0, 0.0, one.load)))
