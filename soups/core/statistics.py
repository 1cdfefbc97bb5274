"""Uncertainty of scores: cluster bootstrap intervals, McNemar's exact test, paired t-test of gains over splits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from soups.core.errors import DataError

LEVEL = 0.95
"""Confidence level of the intervals."""

_COUNTS_PER_BLOCK = 4_000_000  # Resampled counts held in memory at a time: 32 MB.


def bootstrap_interval(
    values: np.ndarray, groups: np.ndarray | None = None, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean of `values`; whole groups are drawn with replacement.

    Images of one group (a writer, a person) resemble each other, so the groups, not the images, are the independent
    draws (the cluster bootstrap; Davison and Hinkley 1997, section 3.8). Each resample draws G of the G groups and
    divides the sum of their values by the number of their images.

    With few groups the interval is coarse and too short: five groups have only 126 different resamples, and a
    percentile interval then covers the true mean noticeably less often than its level states. For a single group the
    interval is (mean, mean).

    Args:
        values: (N,) numbers, for example 1.0 where the prediction is correct.
        groups: (N,) names or numbers; None: each image is a group of its own.
        repeats: number of resamples.
        seed: seed of the draws; equal input gives equal output.

    Returns:
        Lower and upper end of the interval.

    Raises:
        DataError: there are no values, or the number of groups is not the number of values.
    """
    return bootstrap_mean_interval([(values, groups)], repeats=repeats, seed=seed)


def bootstrap_mean_interval(
    sets: Sequence[tuple[np.ndarray, np.ndarray | None]], repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean over several sets of each set's mean value.

    A group that is in several sets (the same writer in each shift made from the test images) is drawn for all of them
    at once, which keeps the correlation between the sets. The groups are stratified by the sets that they are in: each
    stratum is resampled at its own size, so no set is ever empty, and sets without common groups are drawn
    independently.

    Args:
        sets: `(values (N_s,), groups (N_s,) or None)` of each set; None: each image is a group of its own, shared with
            no other set. For shifts made from the same images, pass the images' names as groups.
        repeats: number of resamples.
        seed: seed of the draws; equal input gives equal output.

    Returns:
        Lower and upper end of the interval.

    Raises:
        DataError: there is no set, a set has no values, or the number of groups is not the number of values.
    """
    sums, counts = _sum_by_group(sets)
    rng = np.random.default_rng(seed)
    total_sums, total_counts = np.zeros((repeats, len(sets))), np.zeros((repeats, len(sets)))
    patterns, stratum = np.unique(counts > 0, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        members, inside = stratum.ravel() == index, np.flatnonzero(pattern)
        # Groups with equal sums and counts are interchangeable: drawing how often each *kind* appears gives exactly
        # the same distribution, and 50,000 single images have only two kinds (correct, wrong).
        cells = np.hstack([sums[members][:, inside], counts[members][:, inside]])
        kinds, sizes = np.unique(cells, axis=0, return_counts=True)
        for rows, drawn in _draw_resamples(rng, sizes, repeats):
            total_sums[rows, inside] += drawn @ kinds[:, : len(inside)]
            total_counts[rows, inside] += drawn @ kinds[:, len(inside) :]
    return _percentiles((total_sums / total_counts).mean(axis=1))


def _percentiles(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _sum_by_group(sets: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of values and the number of images of each group in each set, both (G, S) float64."""
    if not sets:
        raise DataError("no set to take an interval of", expected="at least one set of values")
    rows_of: dict[object, int] = {}
    number = 0
    cells = []
    for values, groups in sets:
        values = np.asarray(values, dtype=np.float64)
        if len(values) == 0:
            raise DataError("no values to take an interval of", expected="at least one image in each set")
        if groups is not None and len(groups) != len(values):
            raise DataError("groups do not fit the values", expected=f"{len(values)} groups", found=str(len(groups)))
        if groups is None:
            rows = number + np.arange(len(values))
            number += len(values)
        else:
            names, inverse = np.unique(np.asarray(groups), return_inverse=True)
            new = [name for name in names.tolist() if name not in rows_of]
            rows_of |= {name: row for row, name in enumerate(new, start=number)}
            number += len(new)
            rows = np.array([rows_of[name] for name in names.tolist()])[inverse]
        cells.append((rows, values))
    sums = np.stack([np.bincount(rows, weights=values, minlength=number) for rows, values in cells], axis=1)
    counts = np.stack([np.bincount(rows, minlength=number) for rows, _ in cells], axis=1).astype(np.float64)
    return sums, counts


def _draw_resamples(
    rng: np.random.Generator, sizes: np.ndarray, repeats: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of resamples: their numbers (R, 1), and how often each kind of `sizes` (K,) is drawn, (R, K)."""
    block = max(1, _COUNTS_PER_BLOCK // len(sizes))
    for begin in range(0, repeats, block):
        rows = np.arange(begin, min(begin + block, repeats))
        yield rows[:, None], rng.multinomial(sizes.sum(), sizes / sizes.sum(), size=len(rows))


def draw_counts(strata: np.ndarray, repeats: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of resamples of groups, drawn with replacement within each stratum.

    Args:
        strata: (G,) stratum of each group.
        repeats: number of resamples.
        seed: seed of the draws.

    Yields:
        The block's resamples, and how often each group is drawn, (R, G) int64.
    """
    rng, block = np.random.default_rng(seed), max(1, _COUNTS_PER_BLOCK // len(strata))
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for begin in range(0, repeats, block):
        rows = slice(begin, min(begin + block, repeats))
        counts = np.empty((rows.stop - begin, len(strata)), dtype=np.int64)
        for own in members:
            counts[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=len(counts))
        yield rows, counts


def bootstrap_sums_interval(
    sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of one statistic, see `bootstrap_sums_intervals`."""
    return bootstrap_sums_intervals(sums, lambda drawn: statistic(drawn)[:, None], repeats, seed)[0]


def bootstrap_sums_intervals(
    sums: np.ndarray, statistics: Callable[[np.ndarray], np.ndarray], repeats: int = 2000, seed: int = 0
) -> list[tuple[float, float]]:
    """Return the 95% percentile bootstrap intervals of statistics of sums over groups, drawn with replacement.

    This is for scores that are not means, such as F1; `bootstrap_interval` describes the effect of few groups. Groups
    with equal sums are interchangeable: how often each *kind* is drawn is multinomial, with the same distribution of
    the statistics as drawing the groups one by one.

    Args:
        sums: (G, K) numbers of each group, such as its true positives of each class.
        statistics: sums over drawn groups (R, K) → S statistics, (R, S).
        repeats: number of resamples.
        seed: seed of the draws; equal input gives equal output. All statistics face the same draws.

    Raises:
        DataError: there is no group.
    """
    if len(sums) == 0:
        raise DataError("no groups to take an interval of", expected="at least one")
    kinds, sizes = np.unique(sums, axis=0, return_counts=True)
    kinds = kinds.astype(np.float64)
    blocks = _draw_resamples(np.random.default_rng(seed), sizes, repeats)
    values = np.concatenate([statistics(drawn.astype(np.float64) @ kinds) for _, drawn in blocks])
    return [_percentiles(column) for column in values.T]


def class_sums(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """Return counts of each group for accuracy and F1: hits, images and predictions by class, (G, 3C) int64.

    Args:
        labels: (N,) int64 in [0, C).
        predictions: (N,) int64 in [0, C).
        groups: (N,) names.
        classes: C.
    """
    _, owner = np.unique(groups, return_inverse=True)
    size, right = int(owner.max(initial=-1)) + 1, labels == predictions

    def count(rows: np.ndarray, classes_of: np.ndarray) -> np.ndarray:
        return np.bincount(owner[rows] * classes + classes_of[rows], minlength=size * classes).reshape(size, classes)

    everything = np.ones(len(labels), dtype=bool)
    return np.hstack([count(right, labels), count(everything, labels), count(everything, predictions)])


def accuracy_from_sums(sums: np.ndarray) -> np.ndarray:
    """Return the accuracy in [0, 1] from sums of `class_sums`: (R, 3C) to (R,)."""
    hits, images, _ = np.split(sums, 3, axis=-1)
    return hits.sum(axis=-1) / images.sum(axis=-1)


def balanced_accuracy_from_sums(sums: np.ndarray) -> np.ndarray:
    """Return the mean recall in [0, 1] of the classes that occur, from sums of `class_sums`."""
    hits, images, _ = np.split(sums, 3, axis=-1)
    return (hits / np.maximum(images, 1)).sum(axis=-1) / (images > 0).sum(axis=-1)


def macro_f1_from_sums(sums: np.ndarray) -> np.ndarray:
    """Return the mean F1 in [0, 1] of the classes that occur or are predicted, from sums of `class_sums`."""
    hits, images, predicted = np.split(sums, 3, axis=-1)
    involved = images + predicted > 0
    scores = 2 * hits / np.maximum(images + predicted, 1)
    return scores.sum(axis=-1, where=involved) / involved.sum(axis=-1)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Return the exact two-sided p-value of the hypothesis that two classifiers have equal accuracy.

    Under the hypothesis, each classifier is correct on half of the images that exactly one of them classifies
    correctly: a binomial test (McNemar 1947, exact form). It assumes independent images, so with groups the p-value is
    too small.

    Args:
        correct_a: (N,) bool, whether the first classifier is correct.
        correct_b: (N,) bool, whether the second one is, on the same images.

    Returns:
        A probability in (0, 1]; 1.0 if both are correct on the same images.

    Raises:
        DataError: the two arrays do not have the same shape.
    """
    correct_a, correct_b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if correct_a.shape != correct_b.shape:
        raise DataError("predictions of different images", found=f"{correct_a.shape} and {correct_b.shape}")
    only_a = int(np.count_nonzero(correct_a & ~correct_b))
    only_b = int(np.count_nonzero(correct_b & ~correct_a))
    if only_a + only_b == 0:
        return 1.0
    from scipy.special import bdtr  # `scipy.stats` takes half a second to import.

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


@dataclass(frozen=True)
class Gain:
    """A mean difference over repetitions, with the interval and p-value of a paired t-test."""

    mean: float
    low: float | None
    """Lower end of the interval; None for one repetition."""
    high: float | None
    """Upper end of the interval; None for one repetition."""
    p: float | None
    """Two-sided p-value of a true mean difference of zero; None for one repetition."""


def paired_gain(differences: Sequence[float]) -> Gain:
    """Return the mean of paired differences with the t interval and p-value of the paired t-test (Student 1908).

    The test assumes independent, approximately normal differences. Splits of the same images overlap, so for them the
    interval and the p-value are too small (Nadeau and Bengio 2003, "Inference for the generalization error").

    Args:
        differences: n differences, one for each repetition (split).

    Returns:
        The gain; if all differences are equal, the interval is a point, and p is 1 for a difference of 0 and else 0.

    Raises:
        DataError: there are no differences.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) == 0:
        raise DataError("no differences to pool", expected="at least one repetition")
    mean = float(values.mean())
    if len(values) == 1:
        return Gain(mean, None, None, None)
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    if error <= 1e-15:  # Differences that are equal up to rounding of the mean.
        return Gain(mean, mean, mean, 1.0 if abs(mean) <= 1e-15 else 0.0)
    from scipy.stats import t

    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Gain(mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, len(values) - 1)))
