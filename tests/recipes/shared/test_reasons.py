"""Reasons of a greedy soup for each candidate, by every acceptance rule."""

from typing import Any

import pytest

from soups.core.errors import UsageError
from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.shared.pool import Pool


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({"accept": "significant"}, ["better with it by 1 image (1 gained, 0 lost), which chance gives with p = 0.5"]),
        ({"accept": "better"}, ["better with it by 1 image", "only as good as without it"]),
        (
            {"accept": "ties-by-log-loss"},
            ["better with it by 1 image", "as good as without it, but its log-loss is higher by 0.17"],
        ),
    ],
)
def test_reasons_of_the_other_rules(options: dict[str, Any], reasons: list[str], toys: Any) -> None:
    one, three = [0.0] * 5 + [1.0], [0.0] * 4 + [0.9, -0.9]
    same = [1.5] * 4 + [0.0, 1.5]  # It moves the mean, but not far enough to be wrong.
    pool = Pool(tuple(toys.named(name, values, toys.zero) for name, values in (("1", one), ("2", three), ("3", same))))
    lines = greedy(pool, toys.unhurried(toys.zero), **options).decisions
    assert [line["why"] for line in lines[1 : 1 + len(reasons)]] == reasons


def test_reasons_by_log_loss(toys: Any) -> None:
    pool = Pool(
        tuple(toys.named(name, [value] * 6, toys.zero) for name, value in (("a", 1.0), ("b", -1.0), ("c", 6.0)))
    )
    soup = greedy_log_loss(pool, toys.unhurried(toys.zero))
    reasons = ["the log-loss falls with it by 1", "the log-loss rises with it by 2"]
    assert [line["why"] for line in soup.decisions[1:]] == reasons
    pool = Pool(pool.ingredients[1:])
    assert (
        greedy_log_loss(pool, toys.zero).summary
        == "kept 1 of 2: averaged with b, the one other, c, raised its log-loss"
    )


def test_options_without_a_meaning_are_errors(toys: Any) -> None:
    pool = Pool((toys.named("a", [0.0] * 6, toys.zero),))
    with pytest.raises(UsageError, match=r"greedy: accept(?s:.*)ties-by-log-loss, equal, better(?s:.*)worse"):
        greedy(pool, toys.zero, accept="worse")
    with pytest.raises(UsageError, match=r"greedy: level(?s:.*)\(0, 1\)(?s:.*)1.5"):
        greedy(pool, toys.zero, accept="significant", level=1.5)
    assert greedy(pool, toys.zero, accept="significant").options == {
        "accept": "significant",
        "level": 0.05,
    }
