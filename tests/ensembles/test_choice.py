"""The choice of the model that answers, against an obvious slow reference."""

import numpy as np
import pytest

from soups.core.metrics import METRICS
from soups.core.statistics import accuracy_from_sums, class_sums
from soups.ensembles.choice import (
    FEWEST_GROUPS,
    STANDARD_ERRORS,
    STATISTICS,
    assign_folds,
    choose,
    merge_groups,
    sum_losses,
    sums_of_answers,
)


def random_losses(seed: int, candidates: int = 4, groups: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses (M, N), groups (N,) of one to five images, and the fold of each group."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
    difficulty = rng.exponential(size=groups)[owner]
    losses = difficulty + rng.exponential(0.3, size=(candidates, len(owner)))
    return losses, owner, np.arange(groups) % 5


def reference(losses: np.ndarray, owner: np.ndarray, folds: np.ndarray, factor: float) -> tuple[int, float, float]:
    """The rule with a loop over resamples of images: chosen candidate, standard error, p-value."""
    rng = np.random.default_rng(9)
    means = losses.mean(axis=1)
    rival = 1 + int(np.argmin(means[1:]))
    drawn = []
    for _ in range(1500):
        rows: list[int] = []
        for fold in np.unique(folds):
            members = np.flatnonzero(folds == fold)
            for group in rng.choice(members, len(members)):
                rows += np.flatnonzero(owner == group).tolist()
        sample = losses[:, rows].mean(axis=1)
        drawn.append(sample[1:] - sample[0])
    table = np.array(drawn)
    errors = table.std(axis=0)
    differences = means[1:] - means[0]
    centred = ((table - differences) / errors).min(axis=1)
    observed = differences[rival - 1] / errors[rival - 1]
    chosen = rival if differences[rival - 1] <= factor * errors[rival - 1] else 0
    return chosen, float(errors[rival - 1]), float((centred <= observed).mean())


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_resampling_images_in_a_loop(seed: int, factor: float) -> None:
    losses, owner, folds = random_losses(seed)
    found = choose(sum_losses(losses, owner), folds, factor)
    chosen, error, p = reference(losses, owner, folds, factor)
    assert (found.chosen, found.rival) == (chosen, 1 + int(losses[1:].mean(axis=1).argmin()))
    assert found.losses == pytest.approx(losses.mean(axis=1))
    assert found.error == pytest.approx(error, rel=0.1)
    assert found.p == pytest.approx(p, abs=0.05)


def test_one_standard_error_around_the_best_single_model() -> None:
    rng = np.random.default_rng(0)
    single = rng.exponential(size=400)
    noise = rng.normal(0, 1, 400)
    noise = (noise - noise.mean()) / noise.std()  # Standard error of the mean: 1 / 20.
    folds = np.arange(400) % 5
    for excess in (-0.06, -0.04, 0.0, 0.04, 0.06):
        sums = sum_losses(np.stack([single, single + noise + excess]))
        chosen = [choose(sums, folds, factor).chosen for factor in (-1, 0, 1)]
        assert chosen == [int(excess < -0.05), int(excess < 0), int(excess < 0.05)] or excess == 0


def test_the_same_model_under_another_name_is_not_chosen() -> None:
    losses, owner, folds = random_losses(1)
    losses[1:] = losses[0]
    for factor in (0.0, 1.0):
        found = choose(sum_losses(losses, owner), folds, factor)
        assert (found.chosen, found.error, found.p) == (0, 0.0, None)


def test_equal_losses_go_to_the_first_of_the_candidates() -> None:
    losses, owner, folds = random_losses(2)
    losses[1:] = losses[0] - np.random.default_rng(0).random(losses.shape[1])
    assert choose(sum_losses(losses, owner), folds).chosen == 1


def test_by_default_a_soup_has_to_be_clearly_better() -> None:
    assert STANDARD_ERRORS == -1


def test_one_candidate() -> None:
    losses, owner, folds = random_losses(3, candidates=1)
    found = choose(sum_losses(losses, owner), folds)
    assert (found.chosen, found.rival, found.p) == (0, 0, None)


def test_few_groups() -> None:
    losses, owner, _ = random_losses(4, groups=FEWEST_GROUPS - 1)
    found = choose(sum_losses(losses, owner), np.arange(FEWEST_GROUPS - 1))
    assert found.error > 0 and found.p is None  # A fold of one group cannot vary by itself.
    assert found.error == choose(sum_losses(losses, owner), np.zeros(FEWEST_GROUPS - 1)).error


def test_p_values_are_those_of_the_smallest_of_many() -> None:
    rejections = {1: 0, 20: 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        losses = rng.normal(size=(21, 60))
        for number in rejections:
            found = choose(sum_losses(losses[: number + 1]), np.arange(60) % 5, repeats=400)
            assert found.p is not None
            rejections[number] += found.p <= 0.1
    assert all(8 <= count <= 36 for count in rejections.values()), rejections  # 20 expected.


def test_statistics_that_are_not_means() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(3, size=90), np.arange(90) // 3
    answers = [np.where(rng.random(90) < share, labels, 0) for share in (0.5, 0.9)]
    sums = np.stack([class_sums(labels, answer, groups, 3) for answer in answers])
    found = choose(sums, np.arange(30) % 5, statistic=lambda sums: 1 - accuracy_from_sums(sums))
    plain = choose(sum_losses(np.stack([answer != labels for answer in answers]), groups), np.arange(30) % 5)
    assert found.losses == pytest.approx(plain.losses) and found.chosen == plain.chosen == 1


@pytest.mark.parametrize("name", METRICS)
def test_losses_of_answers_are_those_of_the_metrics(name: str) -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(3, size=90), rng.integers(12, size=90)
    tables = rng.dirichlet(np.ones(3), size=(2, 90))
    images = np.arange(90)
    answers = [np.stack([own.argmax(axis=1), own.max(axis=1), own[images, labels]], axis=1) for own in tables]
    sums = sums_of_answers(name, np.stack(answers), labels, groups)
    metric, found = METRICS[name], STATISTICS[name](sums.sum(axis=1))
    values = [metric.function(table, labels) for table in tables]
    assert sums.shape[:2] == (2, len(set(groups)))
    assert found == pytest.approx([1 - value if metric.higher_is_better else value for value in values])
    chosen = choose(sums, np.arange(sums.shape[1]) % 5, 0, statistic=STATISTICS[name]).chosen
    assert chosen == int(found[1] < found[0])


def test_many_groups_are_resampled_as_fewer_units_with_the_same_standard_error() -> None:
    rng = np.random.default_rng(0)
    groups, folds = np.arange(3000) // 2, np.arange(3000) // 2 % 5
    losses = rng.exponential(size=(3, 3000)) + rng.normal(size=(3, 1500))[:, groups]
    units = merge_groups(groups, folds, most=400)
    assert len(set(units)) == 400 and all(len(set(units[groups == group])) == 1 for group in range(0, 1500, 97))
    assert all(len(set(folds[units == unit])) == 1 for unit in set(units))
    whole = choose(sum_losses(losses, groups), np.arange(1500) % 5)
    merged = choose(sum_losses(losses, units), folds[np.unique(units, return_index=True)[1]])
    assert merged.losses == pytest.approx(whole.losses) and merged.error == pytest.approx(whole.error, rel=0.12)
    few = merge_groups(np.array(["b", "a", "b"]), np.zeros(3, dtype=np.int64))
    assert few.tolist() == [1, 0, 1]


def test_folds_keep_groups_whole_and_classes_balanced() -> None:
    rng = np.random.default_rng(0)
    groups = np.char.add("w", rng.integers(0, 23, 600).astype(str))
    labels = rng.integers(0, 4, 600)
    folds = assign_folds(labels, groups)
    assert set(folds) == set(range(5)) and folds.dtype == np.int64
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    shares = np.array([[np.mean(labels[folds == fold] == label) for label in range(4)] for fold in range(5)])
    assert abs(shares - 0.25).max() < 0.12 and np.bincount(folds).min() > 80
    assert np.array_equal(assign_folds(labels, groups), folds)
    assert not np.array_equal(assign_folds(labels, groups, seed=1), folds)


@pytest.mark.parametrize(("groups", "folds"), [(1, 5), (2, 2), (4, 4), (5, 5), (12, 5), (60, 5)])
def test_as_many_folds_as_groups(groups: int, folds: int) -> None:
    names = np.arange(60) % groups
    found = assign_folds(np.arange(60) // 30, names)
    assert set(found) == set(range(folds))
    assert groups == 1 or all(len(set(found[names == name])) == 1 for name in names)


def test_fewer_images_than_folds_and_rare_classes() -> None:
    assert sorted(assign_folds(np.array([0, 0, 1]), np.arange(3))) == [0, 1, 2]
    labels = np.arange(20)  # Each class has one image.
    assert np.bincount(assign_folds(labels, np.arange(20))).tolist() == [4] * 5
    assert set(assign_folds(labels, np.arange(20) // 2)) == set(range(5))
