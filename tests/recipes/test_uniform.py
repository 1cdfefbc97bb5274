"""The uniform soup against exact fractions."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from soups.recipes.shared.pool import Ingredient
from soups.recipes.uniform import uniform


def mean_of(ingredients: Sequence[Ingredient]) -> list[Fraction]:
    columns = zip(*(ingredient.load()["w"].tolist() for ingredient in ingredients), strict=True)
    return [sum(map(Fraction, column)) / len(ingredients) for column in columns]


def test_uniform_is_the_mean_and_is_judged_once(toys: Any) -> None:
    pool, judge = toys.pool(11)
    calls: list[dict] = []
    soup = uniform(pool, judge, on_decision=calls.append)
    expected = [float(value) for value in mean_of(pool.ingredients)]
    np.testing.assert_allclose(soup.state["w"].numpy(), expected, rtol=1e-6, atol=1e-7)
    assert soup.score == judge(soup.state).score and len(soup.ingredients) == len(pool.ingredients)
    assert tuple(calls) == soup.decisions and calls[0]["accepted"] and "without choosing" in calls[0]["why"]
    assert uniform(pool, None).score is None
