"""Proposals of corrections: planted errors are found, groups are judged as wholes, and nobody judges himself."""

import numpy as np
import pytest

from soups.evaluation.label_errors import is_group_label, measure_quality, propose_corrections
from soups.evaluation.probe import out_of_fold_probabilities

LEVELS = ("young", "middle", "old")


def blobs(seed: int, people: int = 40, photos: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of persons' photos, their levels, and the persons."""
    rng = np.random.default_rng(seed)
    own = rng.integers(0, 3, people)
    centres = 3 * np.eye(3, 6)[own] + rng.normal(0, 0.5, (people, 6))
    features = np.repeat(centres, photos, axis=0) + rng.normal(0, 0.5, (people * photos, 6))
    return features, np.repeat(own, photos), np.repeat([f"p{n:02}" for n in range(people)], photos)


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_are_first_and_a_group_is_one_row(seed: int) -> None:
    features, labels, groups = blobs(seed)
    given = labels.copy()
    for person in ("p03", "p17", "p28"):
        given[groups == person] = (given[groups == person] + 1) % 3
    table = out_of_fold_probabilities(features, given, groups, 3, folds=5, seed=0)
    found = propose_corrections("age", LEVELS, given, table, [f"{n}.png" for n in range(160)], groups)
    assert {each.match for each in found[:3]} == {"p03", "p17", "p28"}
    for each in found[:3]:
        rows = np.flatnonzero(groups == each.match)
        assert each.rows == tuple(rows) and each.factor == "age"
        assert (each.before, each.after) == (LEVELS[given[rows[0]]], LEVELS[labels[rows[0]]])
    assert found[0].issue
    doubts = [each.doubt for each in found]
    assert doubts == sorted(doubts, reverse=True) and all(0.5 < doubt <= 1 for doubt in doubts)


def test_images_are_checked_one_by_one_if_groups_have_several_levels() -> None:
    features, _, groups = blobs(1)
    mixed = np.arange(160) % 3
    features = features + 4 * np.eye(3, 6)[mixed][:, ::-1]
    given = mixed.copy()
    given[[10, 77]] = (given[[10, 77]] + 1) % 3
    table = out_of_fold_probabilities(features, given, groups, 3, folds=5, seed=0)
    found = propose_corrections("mask", LEVELS, given, table, [f"{n}.png" for n in range(160)], groups)
    assert {each.match for each in found[:2]} == {"10.png", "77.png"} and found[0].rows in [(10,), (77,)]


def test_doubt_and_probabilities_equal_those_given() -> None:
    table = np.array([[0.1, 0.9], [0.8, 0.2], [0.45, 0.55], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    labels, groups = np.array([0, 0, 0, 0, 1, 1]), np.array(list("abcdef"))
    found = propose_corrections("sort", ("cat", "dog"), labels, table, list("uvwxyz"), groups)
    assert [(each.match, each.before, each.after) for each in found] == [
        *(("u", "cat", "dog"), ("z", "dog", "cat"), ("w", "cat", "dog"))
    ]
    assert [each.doubt for each in found] == pytest.approx([0.9, 0.7, 0.55])
    assert (found[0].probability_before, found[0].probability_after) == (0.1, 0.9)


def test_labels_that_are_constant_within_groups() -> None:
    groups = np.array(["a", "a", "b", "b"])
    assert is_group_label(np.array([1, 1, 0, 0]), groups)
    assert not is_group_label(np.array([1, 0, 0, 0]), groups)
    assert not is_group_label(np.array([1, 0, 0, 1]), np.array(list("abcd")))


def test_quality_is_chance_for_predictions_that_know_nothing() -> None:
    labels, groups = np.array([0] * 90 + [1] * 10), np.arange(100).astype(str)
    always_first = np.tile([0.9, 0.1], (100, 1))
    quality = measure_quality(labels, always_first, groups)
    assert (quality.accuracy, quality.mean, quality.chance) == (0.9, 0.5, 0.5)
    assert quality.mean_low <= quality.chance
    known = np.eye(2)[labels]
    assert measure_quality(labels, known, groups).mean_low == 1.0
