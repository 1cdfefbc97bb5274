"""Lengths and angles of task vectors against whole vectors in plain NumPy."""

import math

import numpy as np
import pytest
import torch

from soups.recipes.shared import angles as module
from soups.recipes.shared.angles import angles_to_rest, distances_to_rest, gram_matrix, task_vector_lengths


def state(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": scale * torch.randn(7, 5, generator=generator),
        "small": (scale * torch.randn(3, generator=generator)).to(torch.bfloat16),
        "bn.running_var": 1e6 * torch.rand(4, generator=generator),
        "bn.num_batches_tracked": torch.tensor(seed),
    }


def flat(weights: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.cat([weights[key].double().reshape(-1) for key in ("weight", "small")]).numpy()


@pytest.fixture
def pool() -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return [state(seed, scale) for seed, scale in ((1, 1.0), (2, 0.5), (3, 2.0), (4, 30.0))], state(0)


@pytest.mark.parametrize("numbers", [4, 12, 1 << 20])
def test_inner_products_do_not_depend_on_the_chunk_size(
    pool: tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", numbers)
    states, start = pool
    vectors = np.stack([flat(weights) - flat(start) for weights in states])
    products = gram_matrix(states, start)
    assert products.dtype == np.float64
    assert np.allclose(products, vectors @ vectors.T, rtol=1e-12)
    assert np.allclose(task_vector_lengths(products), np.linalg.norm(vectors, axis=1))


def test_angles_are_to_the_mean_of_the_other_members(
    pool: tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
) -> None:
    states, start = pool
    vectors = np.stack([flat(weights) - flat(start) for weights in states])
    members = np.array([True, True, True, False])
    found = angles_to_rest(gram_matrix(states, start), members)
    for index, vector in enumerate(vectors):
        mean = np.mean([vectors[other] for other in range(3) if other != index], axis=0)
        cosine = vector @ mean / (np.linalg.norm(vector) * np.linalg.norm(mean))
        assert found[index] == pytest.approx(math.degrees(math.acos(cosine)))


def test_known_angles() -> None:
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
    found = angles_to_rest(vectors @ vectors.T, np.array([True, True, False, False, False]))
    assert found[:4] == pytest.approx([0, 0, 90, 180])
    assert math.isnan(found[4])  # A length of zero has no direction.
    assert math.isnan(angles_to_rest(np.eye(1), np.array([True]))[0])
    # Three of one length at pairwise cosine 1/4, by the formula of the docstring.
    products = np.full((3, 3), 0.25) + 0.75 * np.eye(3)
    assert angles_to_rest(products, np.ones(3, dtype=bool)) == pytest.approx(
        np.degrees(np.arccos(0.25 * math.sqrt(2 / 1.25))), abs=1e-9
    )


def test_distances_do_not_depend_on_the_origin(
    pool: tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
) -> None:
    states, start = pool
    members = np.array([True, False, True, True])
    from_start, from_first = (distances_to_rest(gram_matrix(states, origin), members) for origin in (start, states[0]))
    assert np.allclose(from_start, from_first)
    vectors = [flat(weights) for weights in states]
    for index, vector in enumerate(vectors):
        mean = np.mean([vectors[other] for other in (0, 2, 3) if other != index], axis=0)
        assert from_start[index] == pytest.approx(np.linalg.norm(vector - mean))
    assert np.isnan(distances_to_rest(np.eye(1), np.array([True]))[0])
