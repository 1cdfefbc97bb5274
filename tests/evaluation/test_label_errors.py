"""Proposals of corrections: planted errors are found, groups are judged as wholes, and nobody judges himself."""

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.evaluation.label_errors import is_group_label, propose_corrections
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
def test_planted_errors_stand_first_and_a_group_is_one_row(seed: int) -> None:
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


def test_images_are_judged_one_by_one_where_groups_hold_several_levels() -> None:
    features, _, groups = blobs(1)
    mixed = np.arange(160) % 3
    features = features + 4 * np.eye(3, 6)[mixed][:, ::-1]
    given = mixed.copy()
    given[[10, 77]] = (given[[10, 77]] + 1) % 3
    table = out_of_fold_probabilities(features, given, groups, 3, folds=5, seed=0)
    found = propose_corrections("mask", LEVELS, given, table, [f"{n}.png" for n in range(160)], groups)
    assert {each.match for each in found[:2]} == {"10.png", "77.png"} and found[0].rows in [(10,), (77,)]


def test_doubt_and_probabilities_are_those_of_the_table() -> None:
    table = np.array([[0.1, 0.9], [0.8, 0.2], [0.45, 0.55], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    labels, groups = np.array([0, 0, 0, 0, 1, 1]), np.array(list("abcdef"))
    found = propose_corrections("sort", ("cat", "dog"), labels, table, list("uvwxyz"), groups)
    assert [(each.match, each.before, each.after) for each in found] == [
        *(("u", "cat", "dog"), ("z", "dog", "cat"), ("w", "cat", "dog"))
    ]
    assert [each.doubt for each in found] == pytest.approx([0.9, 0.7, 0.55])
    assert (found[0].probability_before, found[0].probability_after) == (0.1, 0.9)


def test_when_a_label_belongs_to_groups() -> None:
    groups = np.array(["a", "a", "b", "b"])
    assert is_group_label(np.array([1, 1, 0, 0]), groups)
    assert not is_group_label(np.array([1, 0, 0, 0]), groups)
    assert not is_group_label(np.array([1, 0, 0, 1]), np.array(list("abcd")))


def test_nobody_of_a_group_was_trained_on_when_it_is_asked() -> None:
    features, labels, groups = blobs(2)
    # One person far from all others, with a label that nobody there has: whoever saw him would know it.
    lone = groups == "p05"
    features[lone] = 3 * np.eye(3, 6)[0] + 40 * np.eye(6)[5]
    labels[lone] = 2
    everybody = np.arange(160).astype(str)
    seen = out_of_fold_probabilities(features, labels, everybody, 3, folds=5, seed=0)[lone]
    unseen = out_of_fold_probabilities(features, labels, groups, 3, folds=5, seed=0)[lone]
    assert (seen[:, 2] > 0.7).all() and (unseen[:, 2] < 0.5).all()


def test_too_little_to_cross_validate() -> None:
    with pytest.raises(DataError, match="too few groups or classes to cross-validate"):
        out_of_fold_probabilities(np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.array(list("aaaa")), 2, 5, 0)
    with pytest.raises(DataError, match="no labelled images"):
        propose_corrections("age", LEVELS, np.zeros(0, dtype=np.int64), np.zeros((0, 3)), [], np.zeros(0))
