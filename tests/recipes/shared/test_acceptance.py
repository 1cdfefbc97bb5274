"""Acceptance rules against their definitions, and the sign test against a sum of binomials."""

import math

import numpy as np
import pytest

from soups.recipes.shared.acceptance import (
    AtLeast,
    LossAtMost,
    ScoreThenLoss,
    Significant,
    count_gains,
    gains_and_losses,
    sign_test,
)
from soups.recipes.shared.pool import Accept, Verdict


def verdict(score: float, log_loss: float = 1.0) -> Verdict:
    return Verdict(score, 0, 4, log_loss=log_loss)


@pytest.mark.parametrize(
    ("rule", "accepted", "rejected"),
    [
        (AtLeast(0.5), [verdict(0.5), verdict(0.6)], [verdict(0.4), verdict(math.nan)]),
        (AtLeast(0.5, strict=True), [verdict(0.6)], [verdict(0.5), verdict(0.4)]),
        (ScoreThenLoss(0.5, 1.0), [verdict(0.5, 1.0), verdict(0.6, 9.0)], [verdict(0.5, 1.1), verdict(0.4, 0.0)]),
        (LossAtMost(1.0), [verdict(0.1, 1.0), verdict(0.1, 0.9)], [verdict(0.9, 1.1), verdict(0.9, math.nan)]),
    ],
)
def test_rules_compare_score_and_log_loss(rule: Accept, accepted: list[Verdict], rejected: list[Verdict]) -> None:
    assert all(rule.allows(each) for each in accepted)
    assert not any(rule.allows(each) for each in rejected)


def test_images_not_judged_count_as_right_for_the_candidate() -> None:
    candidate, incumbent = np.array([1, 0, -1, -1, 0], dtype=np.int8), np.array([0, 1, 0, 1, 0], dtype=np.int8)
    assert gains_and_losses(candidate, incumbent) == (2, 1)
    assert gains_and_losses(candidate, incumbent, seen_only=True) == (1, 1)
    assert count_gains(Verdict(0.5, 1, 2, outcome=candidate), Verdict(0.5, 1, 5, outcome=incumbent)) == (1, 1)
    assert count_gains(verdict(0.5), Verdict(0.5, 1, 5, outcome=incumbent)) is None


def test_a_gain_is_significant_if_chance_rarely_gives_it() -> None:
    incumbent = Verdict(0.5, 5, 10, outcome=np.array([1] * 5 + [0] * 5, dtype=np.int8))
    better = Verdict(1.0, 0, 10, outcome=np.ones(10, dtype=np.int8))  # Five gained, none lost: p = 1 / 32.
    assert Significant(incumbent, 0.05).allows(better) and not Significant(incumbent, 0.01).allows(better)
    assert not Significant(incumbent, 1.0).allows(incumbent)


def test_the_sign_test_sums_binomials() -> None:
    for gained in range(6):
        for lost in range(6):
            tosses = gained + lost
            expected = sum(math.comb(tosses, heads) for heads in range(gained, tosses + 1)) / 2**tosses
            assert sign_test(gained, lost) == pytest.approx(expected)
    assert sign_test(0, 0) == 1.0
