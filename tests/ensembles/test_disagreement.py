"""Disagreement measures, against their formulas."""

import math

import numpy as np
import pytest

from soups.core.labels import Factor, LabelSpace
from soups.ensembles.disagreement import disagreement_by_factor, format_votes, jensen_shannon_divergence, vote_entropy

SPACE = LabelSpace.product([Factor("mask", ("on", "off")), Factor("age", ("young", "middle", "old"))])


def entropy(values: list[int]) -> float:
    shares = [values.count(value) / len(values) for value in set(values)]
    return -sum(share * math.log(share) for share in shares)


@pytest.mark.parametrize("seed", range(10))
def test_entropy_of_votes(seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 4, size=(5, 20))
    expected = [entropy(codes[:, image].tolist()) for image in range(20)]
    assert vote_entropy(codes, 6) == pytest.approx(expected)


def test_disagreement_is_computed_per_factor() -> None:
    names = [["on/young", "off/young"], ["on/old", "off/young"], ["on/old", "on/young"]]
    codes = np.array([[SPACE.names.index(name) for name in row] for row in names])
    found = disagreement_by_factor(codes, SPACE)
    assert list(found) == ["class", "mask", "age"]
    third = entropy([0, 1, 1])
    assert found["class"] == pytest.approx([third, third])
    assert found["mask"] == pytest.approx([0, third]) and found["age"] == pytest.approx([third, 0])
    assert list(disagreement_by_factor(codes, LabelSpace(tuple("abcdef")))) == ["class"]


def test_divergence_is_zero_where_all_agree_and_log_m_where_none_does() -> None:
    tables = np.zeros((3, 2, 3))
    tables[:, 0] = [0.2, 0.3, 0.5]
    tables[:, 1] = np.eye(3)
    assert jensen_shannon_divergence(tables) == pytest.approx([0, math.log(3)], abs=1e-12)


def test_divergence_equals_the_formula() -> None:
    tables = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 6))
    for image in range(6):
        mean = tables[:, image].mean(axis=0)
        expected = np.mean([np.sum(table[image] * np.log(table[image] / mean)) for table in tables])
        assert jensen_shannon_divergence(tables)[image] == pytest.approx(expected)


def test_votes_as_text() -> None:
    assert format_votes(np.array([2, 0, 2, 1]), ("a", "b", "c")) == "c 2, a 1, b 1"
