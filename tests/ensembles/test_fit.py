"""Fitted weights against a grid, and parsing of members."""

import itertools

import numpy as np
import pytest

from soups.core.errors import DataError, UsageError
from soups.core.scores import log_loss
from soups.ensembles import fit_weights, parse_members


def loss(weights: np.ndarray, tables: np.ndarray, labels: np.ndarray) -> float:
    return log_loss(np.tensordot(weights, tables, axes=1), labels)


def random_case(seed: int, models: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 80)
    tables = rng.dirichlet(np.full(4, 0.7), size=(models, 80))
    tables[:, np.arange(80), labels] += rng.uniform(0, 1.5, models)[:, None] * rng.random(80)
    return tables / tables.sum(axis=2, keepdims=True), labels


@pytest.mark.parametrize("seed", range(6))
def test_fitted_weights_beat_every_point_of_a_grid(seed: int) -> None:
    tables, labels = random_case(seed, models=3)
    weights = fit_weights(tables, labels)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-12)
    best = loss(weights, tables, labels)
    grid = [np.array([a, b, 50 - a - b]) / 50 for a, b in itertools.product(range(51), repeat=2) if a + b <= 50]
    losses = [loss(point, tables, labels) for point in grid]
    assert best <= min(losses) + 1e-6
    assert np.abs(weights - grid[int(np.argmin(losses))]).max() < 0.1


def test_fitted_weights_are_optimal_for_many_models() -> None:
    for seed in range(3):
        tables, labels = random_case(seed, models=30)
        weights = fit_weights(tables, labels)
        best = loss(weights, tables, labels)
        rng = np.random.default_rng(seed)
        for step in (0.3, 0.03, 0.003):
            for other in np.vstack([np.eye(30), rng.dirichlet(np.full(30, 0.2), 30)]):
                assert loss((1 - step) * weights + step * other, tables, labels) >= best - 1e-6


def test_a_perfect_model_gets_all_weight() -> None:
    labels = np.arange(60) % 3
    tables = np.stack([np.full((60, 3), 1 / 3), np.eye(3)[labels], np.eye(3)[(labels + 1) % 3]])
    np.testing.assert_allclose(fit_weights(tables, labels), [0, 1, 0], atol=1e-4)


def test_equal_models_keep_equal_weights_and_fits_repeat() -> None:
    tables, labels = random_case(0, models=1)
    np.testing.assert_allclose(fit_weights(np.repeat(tables, 3, axis=0), labels), [1 / 3] * 3, atol=1e-6)
    tables, labels = random_case(1, models=5)
    assert np.array_equal(fit_weights(tables, labels), fit_weights(tables, labels))
    assert fit_weights(tables[:1], labels).tolist() == [1.0]


def test_all_impossible_is_not_a_crash() -> None:
    labels = np.zeros(4, dtype=np.int64)
    weights = fit_weights(np.tile([0.0, 1.0], (2, 4, 1)), labels)
    assert weights.sum() == pytest.approx(1) and np.isfinite(weights).all()


def test_fit_needs_images_with_labels() -> None:
    with pytest.raises(DataError, match="validation images with labels"):
        fit_weights(np.ones((2, 3, 2)) / 2, np.zeros(4, dtype=np.int64))


@pytest.mark.parametrize(
    ("members", "names", "weights"),
    [
        (("a", "b"), ("a", "b"), None),
        (("a=3", "b=1"), ("a", "b"), [3, 1]),
        (("a=0", "b=1e-3"), ("a", "b"), [0, 1e-3]),
        (("runs/lr=1e-5/a.pt", "b"), ("runs/lr=1e-5/a.pt", "b"), None),
        (("runs/lr=1e-5/a.pt=2", "b=2"), ("runs/lr=1e-5/a.pt", "b"), [2, 2]),
        ((), (), None),
    ],
)
def test_members(members: tuple[str, ...], names: tuple[str, ...], weights: list[float] | None) -> None:
    found_names, found_weights = parse_members(members)
    assert found_names == names
    assert found_weights is None if weights is None else found_weights == pytest.approx(weights)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (("a=0.5", "b"), "no weight for b"),
        (("a", "a"), "'a' is a member of the vote twice"),
        (("a=1", "a=2"), "'a' is a member of the vote twice"),
        (("a=x",), "'a=x': not a member"),
        (("a=",), "'a=': not a member"),
        (("=1",), "'=1': not a member"),
        (("a=-1",), "'a=-1': not a member"),
        (("a=nan",), "'a=nan': not a member"),
        (("a=inf",), "'a=inf': not a member"),
        (("a=0", "b=0"), "all weights of the vote are 0"),
        (("",), "'': not a member"),
    ],
)
def test_invalid_members_are_errors(members: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_members(members)
