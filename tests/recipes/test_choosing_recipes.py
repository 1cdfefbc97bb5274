"""Pruned and top-k soups and slerp against slow, obvious references."""

import dataclasses
import itertools
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.recipes.pruned import pruned
from soups.recipes.shared.pool import Accept, Ingredient, Pool, Soup, Verdict
from soups.recipes.slerp import slerp
from soups.recipes.top_k import top_k

State = dict[str, torch.Tensor]
IMAGES = 8


def judge(state: State, accept: Accept | None = None) -> Verdict:
    """Image i is right where weight i is near 0; it stops as soon as acceptance is ruled out."""
    off = state["w"].double().abs().numpy()
    for seen in range(1, IMAGES + 1):
        errors, loss = int((off[:seen] > 0.5).sum()), float(np.round(off[:seen]).sum()) / IMAGES
        verdict = Verdict((IMAGES - errors) / IMAGES, errors, seen, seen == IMAGES, loss)
        if accept is not None and not verdict.complete and not accept.allows(verdict):
            break
    return verdict


def unhurried(state: State, accept: Accept | None = None) -> Verdict:
    """The same, looking at all images always."""
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


def verdict(ingredients: list[Ingredient]) -> Verdict:
    return judge({"w": torch.tensor(mean(ingredients)).float()})


def order_of_merit(pool: Pool) -> list[Ingredient]:
    return sorted(pool.ingredients, key=lambda i: (-i.score, i.log_loss, i.name))


@pytest.mark.parametrize("ties", ["log_loss", "accept"])
def test_pruned_equals_brute_force(ties: str) -> None:
    sizes = set()
    for seed in range(80):
        pool = make_pool(seed)
        left, best = order_of_merit(pool)[::-1], verdict(list(pool.ingredients))
        changed = True
        while changed:
            changed = False
            for candidate in list(left):
                others = [i for i in left if i is not candidate]
                new = verdict(others) if others else best
                tied = new.score == best.score and (ties == "accept" or new.log_loss <= best.log_loss)
                if others and (new.score > best.score or tied):
                    left, best, changed = others, new, True
        seen: list[dict] = []
        soup = pruned(pool, judge, on_decision=seen.append, ties=ties)
        assert {i.name for i in soup.ingredients} == {i.name for i in left}, seed
        assert pruned(pool, unhurried, ties=ties).ingredients == soup.ingredients
        np.testing.assert_allclose(soup.state["w"].numpy(), mean(left), rtol=1e-6, atol=1e-7)
        assert soup.score == best.score == judge(soup.state).score
        assert soup.coefficients == pytest.approx([1 / len(left)] * len(left))
        assert tuple(seen) == soup.decisions and seen[0]["candidate"] == "all"
        dropped = {line["candidate"].removeprefix("without ") for line in seen[1:] if line["accepted"]}
        assert dropped == {i.name for i in pool.ingredients} - {i.name for i in left}
        sizes.add(len(left))
    assert len(sizes) > 3


def test_pruned_keeps_what_only_the_log_loss_tells_apart() -> None:
    steady, wild = two({"w": torch.full((IMAGES,), 0.4)}, {"w": torch.full((IMAGES,), -0.4)}).ingredients
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

        def noting(state: State, accept: Accept | None = None, judged: list[bytes] = judged) -> Verdict:
            judged.append(state["w"].numpy().tobytes())
            return judge(state, accept)

        parts = [dataclasses.replace(i, known=lambda i=i: judge(i.load())) for i in make_pool(seed).ingredients]
        recipe(Pool(tuple(parts)), noting)
        singles = {part.load()["w"].numpy().tobytes() for part in parts}
        assert len(set(judged)) == len(judged) and not singles & set(judged)
        again += len(judged)
    assert again > 50


def test_top_k_equals_brute_force() -> None:
    sizes, stopped = set(), 0
    for seed in range(80):
        pool = make_pool(seed)
        order = order_of_merit(pool)
        scores = [verdict(order[:k]).score for k in range(1, len(order) + 1)]
        best = max(k for k in range(1, len(order) + 1) if scores[k - 1] == max(scores))
        soup, whole = top_k(pool, judge), top_k(pool, unhurried)
        assert {i.name for i in soup.ingredients} == {i.name for i in order[:best]}, seed
        np.testing.assert_allclose(soup.state["w"].numpy(), mean(order[:best]), rtol=1e-6, atol=1e-7)
        assert soup.score == max(scores) and [line["score"] for line in whole.decisions] == scores
        assert [line["accepted"] for line in soup.decisions] == [line["accepted"] for line in whole.decisions]
        assert soup.options == whole.options == {"k": best}
        sizes.add(best)
        stopped += sum(not line["complete"] for line in soup.decisions)
    assert len(sizes) > 3 and stopped > 20


def test_top_k_fixed() -> None:
    pool = make_pool(1, 5)
    for k in range(1, 6):
        seen: list[dict] = []
        soup = top_k(pool, judge, k=k, on_decision=seen.append)
        np.testing.assert_allclose(soup.state["w"].numpy(), mean(order_of_merit(pool)[:k]), rtol=1e-6, atol=1e-7)
        assert tuple(seen) == soup.decisions and len(seen) == 1 and soup.score == judge(soup.state).score
    for k in (0, 6):
        with pytest.raises(UsageError, match=rf"top_k: k(?s:.*)from 1 to 5(?s:.*){k}"):
            top_k(pool, judge, k=k)


def arc(a: np.ndarray, b: np.ndarray, fraction: float) -> np.ndarray:
    """Shoemake's formula, by rotation: a, turned towards b in their plane, where both have the same length."""
    unit = a / np.linalg.norm(a)
    across = b - (b @ unit) * unit
    angle = np.arctan2(np.linalg.norm(across), b @ unit)
    return np.linalg.norm(a) * (
        np.cos(fraction * angle) * unit + np.sin(fraction * angle) * across / np.linalg.norm(across)
    )


def two(one: State, other: State) -> Pool:
    return Pool((Ingredient("one", "a", 0.5, 1.0, lambda: one), Ingredient("other", "b", 0.5, 1.0, lambda: other)))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_slerp_turns_and_keeps_the_length(fraction: float) -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, IMAGES))
    other *= np.linalg.norm(one) / np.linalg.norm(other)
    pool = two({"w": torch.tensor(one)}, {"w": torch.tensor(other)})
    state = slerp(pool, judge, fraction=fraction).state
    np.testing.assert_allclose(state["w"].numpy(), arc(one, other, fraction), rtol=1e-12)


def test_slerp_of_unequal_lengths_tensor_by_tensor() -> None:
    pool = make_pool(5, 2)
    first, second = sorted(pool.ingredients, key=lambda i: i.sha256)
    soup = slerp(pool, judge, fraction=0.3)
    for key in ("w", "m"):
        a, b = (i.load()[key].double().numpy() for i in (first, second))
        angle = np.arccos((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
        expected = (np.sin(0.7 * angle) * a + np.sin(0.3 * angle) * b) / np.sin(angle)
        np.testing.assert_allclose(soup.state[key].numpy(), expected, rtol=2e-6, atol=1e-6)
    assert soup.state["n"].item() == first.load()["n"].item()
    assert soup.coefficients == (0.7, 0.3) and soup.score == judge(soup.state).score


def test_slerp_takes_the_line_where_there_is_no_arc() -> None:
    ones = torch.ones(IMAGES)
    for other in (2 * ones, -ones, 0 * ones, ones + torch.tensor([1e-3] + [0.0] * (IMAGES - 1))):
        state = slerp(two({"w": ones}, {"w": other}), judge, fraction=0.25).state
        torch.testing.assert_close(state["w"], 0.75 * ones + 0.25 * other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_slerp_in_both_orders(dtype: torch.dtype) -> None:
    pool = make_pool(6, 2, dtype)
    one, other = slerp(pool, judge), slerp(Pool(pool.ingredients[::-1]), judge)
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    assert one.state["w"].dtype == dtype


@pytest.mark.parametrize("number", [1, 3])
def test_slerp_wants_two(number: int) -> None:
    with pytest.raises(DataError, match=rf"slerp: an arc has two ends(?s:.*)exactly 2 models(?s:.*){number}"):
        slerp(make_pool(0, number), judge)


def test_slerp_names_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="other: tensor 'w' does not fit one"):
        slerp(two({"w": torch.ones(2)}, {"w": torch.ones(3)}), judge)
    with pytest.raises(DataError, match="other: tensor 'w' holds NaN"):
        slerp(two({"w": torch.ones(1)}, {"w": torch.full((1,), torch.nan)}), judge)
    with pytest.raises(UsageError, match=r"slerp: fraction(?s:.*)\[0, 1\]"):
        slerp(make_pool(0, 2), judge, fraction=2.0)


@pytest.mark.parametrize("recipe", [pruned, top_k])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_order_gives_the_same_bits_one_model_at_a_time(recipe: Callable, dtype: torch.dtype) -> None:
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
