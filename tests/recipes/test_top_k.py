"""The top-k soup against a slow reference."""

import numpy as np
import pytest

from soups.core.errors import UsageError
from soups.recipes.top_k import top_k
from tests.recipes.selection_toys import judge, judge_fully, make_pool, mean, mean_verdict, sort_by_score


def test_top_k_equals_brute_force() -> None:
    sizes, stopped = set(), 0
    for seed in range(80):
        pool = make_pool(seed)
        order = sort_by_score(pool)
        scores = [mean_verdict(order[:k]).score for k in range(1, len(order) + 1)]
        best = max(k for k in range(1, len(order) + 1) if scores[k - 1] == max(scores))
        soup, whole = top_k(pool, judge), top_k(pool, judge_fully)
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
        np.testing.assert_allclose(soup.state["w"].numpy(), mean(sort_by_score(pool)[:k]), rtol=1e-6, atol=1e-7)
        assert tuple(seen) == soup.decisions and len(seen) == 1 and soup.score == judge(soup.state).score
    for k in (0, 6):
        with pytest.raises(UsageError, match=rf"top_k: k(?s:.*)from 1 to 5(?s:.*){k}"):
            top_k(pool, judge, k=k)
