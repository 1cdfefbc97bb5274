"""Pools, canonical order, and judges that wrap another judge."""

import pickle
from typing import Any

import pytest
import torch

from soups.core.errors import DataError
from soups.recipes.shared.pool import Ingredient, Pool, Verdict, WrappedJudge, canonical_order, equal_soup


def test_pools_without_or_with_repeated_ingredients_are_errors(toys: Any) -> None:
    one = toys.named("one", [0.0] * toys.images, toys.zero)
    with pytest.raises(DataError, match="no ingredients"):
        Pool(())
    with pytest.raises(DataError, match="one and one have the same name"):
        Pool((one, one))
    with pytest.raises(DataError, match="one and copy are the same model twice"):
        Pool((one, Ingredient("copy", one.sha256, 1.0, 0.0, one.load)))


def test_canonical_order_is_by_hash(toys: Any) -> None:
    pool, _ = toys.pool(5)
    digests = [ingredient.sha256 for ingredient in canonical_order(reversed(pool.ingredients))]
    assert len(digests) > 1 and digests == sorted(ingredient.sha256 for ingredient in pool.ingredients)


def test_an_equal_soup_keeps_a_given_state_only_in_canonical_order(toys: Any) -> None:
    states = {name: toys.state([value] * toys.images) for name, value in (("a", 1.0), ("b", 2.0))}
    first, second = (Ingredient(name, name, 0.5, 1.0, lambda name=name: states[name]) for name in "ab")
    given = toys.state([7.0] * toys.images)
    assert equal_soup("uniform", (first, second), "", state=given).state is given
    soup = equal_soup("uniform", (second, first), "a sentence", {"k": 2}, given)
    assert soup.ingredients == (first, second) and soup.coefficients == (0.5, 0.5) and soup.score is None
    assert torch.equal(soup.state["w"], torch.full((toys.images,), 1.5))
    assert (soup.summary, soup.options) == ("a sentence", {"k": 2})


class CountingJudge:
    """A judge with an attribute of its own."""

    width = 3

    def __call__(self, state: Any, accept: Any = None) -> Verdict:
        return Verdict(0.5, 1, 2)


def test_a_wrapped_judge_forwards_verdicts_and_attributes_and_can_be_pickled() -> None:
    for judge in (WrappedJudge(CountingJudge()), pickle.loads(pickle.dumps(WrappedJudge(CountingJudge())))):
        assert judge({}) == Verdict(0.5, 1, 2) and judge.width == 3
        assert not hasattr(judge, "next_decision")
