"""Intervals against a bootstrap written as loops; McNemar against enumeration."""

from math import comb

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.statistics import (
    Gain,
    accuracy_from_sums,
    bootstrap_interval,
    bootstrap_mean_interval,
    bootstrap_sums_interval,
    bootstrap_sums_intervals,
    class_sums,
    macro_f1_from_sums,
    mcnemar,
    paired_gain,
)


def slow_interval(sets: list[tuple[np.ndarray, np.ndarray]], repeats: int, seed: int) -> tuple[float, float]:
    """Draw groups by name, gather their images, take means: only for sets that all have the same groups."""
    rng = np.random.default_rng(seed)
    names = sorted(set(sets[0][1]))
    means = []
    for _ in range(repeats):
        drawn = rng.choice(names, size=len(names))
        means.append(np.mean([np.concatenate([v[g == name] for name in drawn]).mean() for v, g in sets]))
    low, high = np.percentile(means, [2.5, 97.5])
    return low, high


@pytest.mark.parametrize("seed", range(4))
def test_interval_equals_a_slow_bootstrap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 8, 200).astype(str)
    ease = dict(zip(sorted(set(groups)), rng.uniform(0.4, 1, 8), strict=True))
    values = (rng.random(200) < [ease[group] for group in groups]).astype(float)
    found = bootstrap_interval(values, groups, repeats=20_000, seed=seed)
    assert found == pytest.approx(slow_interval([(values, groups)], 5000, seed), abs=0.012)


def test_mean_over_sets_shares_the_draws() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(list("abcdef"), 20)
    one, two = rng.random(120), rng.random(120)
    found = bootstrap_mean_interval([(one, groups), (two, groups)], repeats=20_000)
    assert found == pytest.approx(slow_interval([(one, groups), (two, groups)], 5000, 1), abs=0.012)


def test_shared_groups_are_correlated_and_separate_ones_are_not() -> None:
    values, groups = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 5), np.repeat(np.arange(8), 5)
    low, high = bootstrap_interval(values, groups)
    shared = bootstrap_mean_interval([(values, groups)] * 4)
    assert shared == pytest.approx((low, high))
    separate = bootstrap_mean_interval([(values, groups + 100 * index) for index in range(4)])
    assert separate[1] - separate[0] < 0.7 * (high - low)
    # Two sets that contradict each other in every group have a mean that never moves.
    assert bootstrap_mean_interval([(values, groups), (1 - values, groups)]) == pytest.approx((0.5, 0.5))


def test_without_groups_every_image_is_a_group() -> None:
    values = (np.arange(400) % 4 > 0).astype(float)
    found = bootstrap_interval(values, repeats=20_000)
    exact = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found == pytest.approx((0.75 - exact, 0.75 + exact), abs=0.004)
    assert bootstrap_interval(values, np.arange(400), repeats=20_000) == pytest.approx(found, abs=0.004)


def test_whole_groups_make_wider_intervals() -> None:
    values, groups = np.repeat([0.0, 1.0] * 5, 40), np.repeat(np.arange(10), 40)
    grouped, single = bootstrap_interval(values, groups), bootstrap_interval(values)
    assert grouped[1] - grouped[0] > 3 * (single[1] - single[0])


def test_interval_covers_the_true_mean_at_about_its_level() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    covered = 0
    for seed in range(300):
        ease = np.repeat(rng.uniform(0.5, 0.9, 40), 5)
        low, high = bootstrap_interval((rng.random(200) < ease).astype(float), groups, repeats=500, seed=seed)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_interval_is_repeatable_and_independent_of_the_order_of_images() -> None:
    rng = np.random.default_rng(3)
    values, groups = (rng.random(60) < 0.5).astype(float), rng.integers(0, 6, 60)
    order = rng.permutation(60)
    found = bootstrap_interval(values, groups, seed=5)
    assert found == bootstrap_interval(values, groups, seed=5)
    assert found == bootstrap_interval(values[order], groups[order], seed=5)
    assert found != bootstrap_interval(values, groups, seed=6)


def test_sets_with_partly_shared_groups_are_never_empty() -> None:
    values = np.array([1.0, 0.0, 1.0])
    sets = [(values, np.array(list("abc"))), (values[:1], np.array(["c"])), (values[:2], np.array(["x", "y"]))]
    low, high = bootstrap_mean_interval(sets)
    assert 0 <= low <= high <= 1


def test_the_interval_of_one_group_is_its_mean() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    assert bootstrap_interval(values, np.zeros(4)) == (0.75, 0.75)


def test_fifty_thousand_images_have_a_narrow_interval() -> None:
    values = (np.arange(50_000) % 10 > 0).astype(float)
    low, high = bootstrap_mean_interval([(values, None)] * 5)
    assert 0.89 < low < 0.9 < high < 0.91


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([], "no set"),
        ([(np.array([]), None)], "no values"),
        ([(np.ones(3), np.zeros(2))], "groups do not fit the values"),
    ],
)
def test_empty_input_is_rejected(sets: list, words: str) -> None:
    with pytest.raises(DataError, match=words):
        bootstrap_mean_interval(sets)


def test_mcnemar_equals_enumeration() -> None:
    for only_a in range(8):
        for only_b in range(8):
            total, fewer = only_a + only_b, min(only_a, only_b)
            tail = sum(comb(total, k) for k in range(fewer + 1)) / 2**total
            a = np.array([1] * only_a + [0] * only_b + [1, 1, 0], dtype=bool)
            b = np.array([0] * only_a + [1] * only_b + [1, 1, 0], dtype=bool)
            assert mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_of_equal_predictions_and_of_different_images() -> None:
    assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0
    with pytest.raises(DataError, match="different images"):
        mcnemar(np.ones(2), np.ones(3))


@pytest.mark.parametrize("seed", range(4))
def test_a_paired_gain_is_scipy_s_paired_t_test(seed: int) -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 5 + seed))
    gain = paired_gain(list(one - other))
    expected = ttest_rel(one, other)
    assert gain.mean == pytest.approx((one - other).mean()) and gain.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high))


def test_a_paired_gain_of_equal_or_single_differences() -> None:
    assert paired_gain([0.25]) == Gain(0.25, None, None, None)
    assert paired_gain([0.0, 0.0, 0.0]) == Gain(0.0, 0.0, 0.0, 1.0)
    assert paired_gain([0.5, 0.5]) == Gain(0.5, 0.5, 0.5, 0.0)
    with pytest.raises(DataError, match="no differences to pool"):
        paired_gain([])


# Scores that are no means


def test_sums_give_the_scores_of_the_metrics() -> None:
    from soups.core.scores import accuracy, macro_f1

    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels, predictions, groups = rng.integers(0, 4, 20), rng.integers(0, 5, 20), rng.integers(0, 6, 20)
        sums = class_sums(labels, predictions, groups, 6)
        assert sums.shape == (len(set(groups.tolist())), 18)
        table = np.eye(6)[predictions]
        assert accuracy_from_sums(sums.sum(axis=0)) == pytest.approx(accuracy(table, labels))
        assert macro_f1_from_sums(sums.sum(axis=0)) == pytest.approx(macro_f1(table, labels))


def test_an_interval_of_a_mean_is_that_of_its_sums() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 300), rng.integers(0, 40, 300)
    predictions = np.where(rng.random(300) < 0.8, labels, (labels + 1) % 3)
    expected = bootstrap_interval((labels == predictions).astype(float), groups, repeats=8000)
    found = bootstrap_sums_interval(class_sums(labels, predictions, groups, 3), accuracy_from_sums, repeats=8000)
    assert found == pytest.approx(expected, abs=0.006)
    assert found == bootstrap_sums_interval(
        class_sums(labels, predictions, groups, 3), accuracy_from_sums, repeats=8000
    )


@pytest.mark.parametrize("images", [1, 5])
def test_drawing_kinds_of_groups_is_drawing_groups(images: int) -> None:
    """The interval of resampled counts is that of resampled rows, up to the error of 8,000 resamples."""
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(0, 3, 400), np.arange(400) // images
    predictions = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 3, 400))
    sums = class_sums(labels, predictions, groups, 3)
    rows = np.random.default_rng(3).integers(0, len(sums), (8000, len(sums)))
    resampled = np.stack([macro_f1_from_sums(sums[row].sum(axis=0)) for row in rows])
    expected = np.quantile(resampled, [0.025, 0.975])
    found = bootstrap_sums_interval(sums, macro_f1_from_sums, repeats=8000)
    assert found == pytest.approx(expected, abs=0.0025)
    assert expected[1] - expected[0] > 0.07


def test_statistics_of_one_call_face_the_same_draws() -> None:
    sums = np.arange(40).reshape(20, 2)
    once, twice = bootstrap_sums_intervals(sums, lambda drawn: np.stack([drawn[:, 0], 2 * drawn[:, 0]], axis=1))
    assert twice == pytest.approx((2 * once[0], 2 * once[1]))
    assert once == bootstrap_sums_interval(sums, lambda drawn: drawn[:, 0])


def test_intervals_of_f1_cover_the_true_value_at_about_their_level() -> None:
    rng, covered = np.random.default_rng(1), 0
    matrix = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    shares = np.array([0.5, 0.3, 0.2])
    images = shares[:, None] * matrix
    truth = np.mean(2 * np.diag(images) / (images.sum(axis=0) + images.sum(axis=1)))
    for seed in range(200):
        labels = rng.choice(3, 400, p=shares)
        predictions = (rng.random(400)[:, None] > matrix[labels].cumsum(axis=1)).sum(axis=1)
        low, high = bootstrap_sums_interval(
            class_sums(labels, predictions, np.arange(400), 3), macro_f1_from_sums, repeats=400, seed=seed
        )
        covered += low <= truth <= high
    assert 180 <= covered <= 199
    with pytest.raises(DataError, match="no groups to take an interval of"):
        bootstrap_sums_interval(np.zeros((0, 3)), accuracy_from_sums)
