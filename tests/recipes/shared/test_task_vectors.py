"""Recipes that work on task vectors, against slow references written from the papers."""

import itertools
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.recipes.dare import random_generator
from soups.recipes.registry import RECIPES
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
    """Best at one point; coarse enough for ties."""
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


@pytest.mark.parametrize("number", [1, 2, 5])
def test_wise_ft_is_on_the_line(number: int) -> None:
    for seed, alpha in itertools.product(range(5), (0.0, 0.3, 1.0)):
        pool = make_pool(seed, number)
        assert pool.start is not None
        soup = RECIPES["wise_ft"](pool, judge, alpha=alpha)
        mean = {key: np.mean([arrays(i)[key] for i in pool.ingredients], axis=0) for key in SHAPES}
        for key, start in arrays(pool.start).items():
            expected = (1 - alpha) * start + alpha * mean[key]
            np.testing.assert_allclose(soup.state[key].double().numpy(), expected, rtol=2e-6, atol=1e-6)
        assert soup.options == {"alpha": alpha} and soup.coefficients == pytest.approx([alpha / number] * number)
    ends = RECIPES["wise_ft"](pool, judge, alpha=0.0)
    assert all(torch.equal(ends.state[key], pool.start.load()[key]) for key in SHAPES)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_task_arithmetic_adds_the_sum(number: int) -> None:
    for seed, scale in itertools.product(range(5), (0.0, 0.1, 1.0)):
        pool = make_pool(seed, number)
        soup = RECIPES["task_arithmetic"](pool, judge, scale=scale)
        total = {key: sum(task[key] for task in tasks_of(pool)) for key in SHAPES}
        close(soup, pool, total, scale)
        assert soup.options == {"scale": scale}
    default = RECIPES["task_arithmetic"](pool, judge)
    assert default.decisions[0]["candidate"] == f"scale={1 / number:g}" and len(default.decisions) == 9


@pytest.mark.parametrize("number", [2, 3, 6])
def test_model_stock_follows_the_angles(number: int) -> None:
    ratios = []
    for seed in range(8):
        pool = make_pool(seed, number)
        tasks, direction = tasks_of(pool), mean_task(tasks_of(pool))
        for key in SHAPES:
            cosines = []
            for one, other in itertools.combinations(tasks, 2):
                a, b = one[key].ravel(), other[key].ravel()
                cosines.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
            cosine = np.mean(cosines)
            ratio = number * cosine / (1 + (number - 1) * cosine) if cosine > 0 else 0.0
            ratios.append(1.0 if direction[key].size == 1 else ratio)
            direction[key] = direction[key] * ratios[-1]
        close(RECIPES["model_stock"](pool, judge), pool, direction)
    assert any(0 < ratio < 1 for ratio in ratios) and 0.0 in ratios


def test_model_stock_of_tensors_that_did_not_move_or_went_opposite_ways() -> None:
    start = {"still": torch.ones(3), "apart": torch.zeros(2)}
    states = [{"still": torch.ones(3), "apart": torch.tensor(side)} for side in ([1.0, 1.0], [-1.0, -2.0])]
    parts = tuple(Ingredient(f"m{i}", f"{i}", 0.5, 1.0, lambda s=s: s) for i, s in enumerate(states))
    pool = Pool(parts, Ingredient("start", "s", 0.5, 1.0, lambda: start))
    state = RECIPES["model_stock"](pool, lambda state, accept=None: Verdict(1.0, 0, 1)).state
    assert all(torch.equal(state[key], start[key]) for key in start)


def elect(tasks: Sequence[Arrays], density: float) -> Arrays:
    """Algorithm 1 of the TIES paper, number by number."""
    flat = [np.concatenate([task[key].ravel() for key in SHAPES]) for task in tasks]
    stays = max(1, round(density * flat[0].size))
    for vector in flat:
        smallest = sorted(abs(value) for value in vector)[-stays]
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


@pytest.mark.parametrize("density", [0.01, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_ties_trims_elects_and_merges(density: float, number: int) -> None:
    for seed in range(5):
        pool = make_pool(seed, number)
        soup = RECIPES["ties"](pool, judge, density=density, scale=0.8)
        close(soup, pool, elect(tasks_of(pool), density), 0.8)
        assert soup.options == {"density": density, "scale": 0.8}


@pytest.mark.parametrize("combine", ["linear", "ties"])
@pytest.mark.parametrize("drop", [0.0, 0.4, 0.9])
def test_dare_drops_and_rescales(combine: str, drop: float) -> None:
    for seed in range(5):
        pool = make_pool(seed, 4)
        tasks = tasks_of(pool)
        for task, ingredient in zip(tasks, by_hash(pool), strict=True):
            for key, shape in SHAPES.items():
                gone = random_generator(3, ingredient.sha256, key).random(shape) < drop
                task[key] = np.where(gone, 0.0, task[key] / (1 - drop))
        expected = mean_task(tasks) if combine == "linear" else elect(tasks, 0.8)
        soup = RECIPES["dare"](pool, judge, drop=drop, combine=combine, density=0.8, seed=3, scale=1.0)
        close(soup, pool, expected)


def test_dropped_numbers_are_as_many_as_asked_and_differ_by_model_tensor_and_seed() -> None:
    base = random_generator(0, "aa", "w").random(10_000) < 0.9
    assert abs(base.mean() - 0.9) < 0.02  # Six standard deviations.
    for other in ((1, "aa", "w"), (0, "ab", "w"), (0, "aa", "v")):
        both = base & (random_generator(*other).random(10_000) < 0.9)
        assert abs(both.mean() - 0.81) < 0.025


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
def test_one_ingredient_in_memory_and_none_changed(name: str, options: dict) -> None:
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
def test_sweeps_take_the_best_and_the_plain_mean_among_equals(name: str) -> None:
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
def test_without_a_start_it_says_how_to_give_it(name: str) -> None:
    pool = Pool(make_pool(0, 2).ingredients)
    with pytest.raises(DataError, match=rf"{name}: the file of the models' common start is missing(?s:.*)_start.safe"):
        RECIPES[name](pool, judge)


@pytest.mark.parametrize("name", NEED_START)
def test_what_does_not_fit_is_named(name: str) -> None:
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


def test_model_stock_needs_two() -> None:
    with pytest.raises(DataError, match=r"model_stock: the angle(?s:.*)2 models or more(?s:.*)found: +1"):
        RECIPES["model_stock"](make_pool(0, 1), judge)


@pytest.mark.parametrize("name", NEED_START)
def test_of_different_starts_it_names_two(name: str) -> None:
    pool = Pool(make_pool(0, 2).ingredients, start_problem="m0 came from 12ab…, m1 from 34cd…")
    with pytest.raises(DataError, match=rf"{name}: the models come from different starts(?s:.*)m0 came from 12ab…"):
        RECIPES[name](pool, judge)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_with_everything_fixed_nobody_is_asked(name: str, options: dict) -> None:
    pool = make_pool(2, 3)
    chosen = RECIPES[name](pool, judge, **options)
    again = RECIPES[name](pool, None, **chosen.options)
    assert again.score is None and again.decisions == ()
    assert again.options == chosen.options and again.coefficients == chosen.coefficients
    assert all(torch.equal(again.state[key], chosen.state[key]) for key in chosen.state)
