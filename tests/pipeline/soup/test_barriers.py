"""Linear barriers: the choice of the reference model, and which barriers count."""

from typing import Any

import pytest

from soups.pipeline.soup import barriers
from soups.pipeline.soup.barriers import Barrier, measure_barriers
from soups.recipes.shared.pool import Ingredient


def ingredient(name: str, score: float) -> Ingredient:
    return Ingredient(name, name, score, 0.0, dict)


@pytest.mark.parametrize(
    ("apart", "reference", "rejected"),
    [
        (set(), "a", set()),
        ({"c"}, "a", {"c"}),
        ({"a"}, "b", {"a"}),  # The best model is the outlier.
        ({"a", "b", "c", "d"}, "a", {"b", "c", "d"}),  # No two mix: the best stays the reference.
    ],
)
def test_the_reference_is_the_best_model_that_mixes_with_most(
    apart: set[str], reference: str, rejected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def barrier(_context: object, _judge: object, one: Ingredient, other: Ingredient) -> Barrier:
        drop = 0.3 if one.name in apart or other.name in apart else 0.01
        return Barrier(0.5, drop, drop - 0.005, drop + 0.005)

    monkeypatch.setattr(barriers, "barrier_between", barrier)
    pool = [ingredient(name, 1 - index / 10) for index, name in enumerate("abcd")]
    context: Any = None
    found, measured = measure_barriers(context, pool, context)
    assert found.name == reference and set(measured) == set("abcd") - {reference}
    assert {name for name, each in measured.items() if each.beyond_noise} == rejected
    found, measured = measure_barriers(context, pool, context, doubtful={"a", "b"})
    assert found.name not in ("a", "b") and len(measured) == 3


@pytest.mark.parametrize(
    ("drop", "low", "beyond"), [(0.03, 0.01, True), (0.03, -0.01, False), (0.015, 0.01, False), (-0.1, -0.2, False)]
)
def test_a_barrier_beyond_noise_is_large_and_its_interval_lies_above_zero(
    drop: float, low: float, beyond: bool
) -> None:
    assert Barrier(0.9, drop, low, 2 * drop - low).beyond_noise is beyond
