"""Selection from a pool, against a plain loop."""

import numpy as np
import pytest

from soups.data.curate import select_similar


def unit(rows: int, size: int, seed: int, centres: int = 5, spread: float = 0.25) -> np.ndarray:
    """Return unit vectors near a few directions, so that some are near duplicates."""
    middle = np.random.default_rng(0).normal(size=(centres, size))
    generator = np.random.default_rng(seed)
    features = middle[generator.integers(0, centres, rows)] + spread * generator.normal(size=(rows, size))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def slow(pool: np.ndarray, target: np.ndarray, avoided: np.ndarray, count: int, duplicate: float) -> list[int]:
    best = [round(max(float(row @ other) for other in target), 5) for row in pool]
    taken: list[int] = []
    for row in sorted(range(len(pool)), key=lambda row: -best[row]):
        others = [*avoided, *(pool[other] for other in taken)]
        if len(taken) < count and all(float(pool[row] @ other) < duplicate for other in others):
            taken.append(row)
    return taken


@pytest.mark.parametrize("duplicate", [0.9, 0.97, 1.0])
@pytest.mark.parametrize("block", [7, 1024])
def test_selection_equals_a_plain_loop(duplicate: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soups.data.curate._BLOCK", block)
    pool, target, avoided = unit(150, 16, 1), unit(30, 16, 2), unit(20, 16, 3)
    selection = select_similar(pool, target, avoided, 40, duplicate)
    assert selection.rows.tolist() == slow(pool, target, avoided, 40, duplicate)
    cosines = pool[selection.rows] @ target.T
    np.testing.assert_allclose(selection.similarity, cosines.max(axis=1), atol=1e-6)
    assert (selection.nearest == cosines.argmax(axis=1)).all()
    assert (np.diff(selection.similarity) <= 1e-5).all()


def test_no_duplicates_and_no_avoided_images_are_selected() -> None:
    target = unit(10, 32, 1)
    pool = np.concatenate([target[:3], unit(20, 32, 2, spread=1.0), unit(20, 32, 2, spread=1.0)])
    selection = select_similar(pool, target, target, 100, 0.999)
    assert len(selection.rows) == 20 and selection.skipped_duplicates == 23
    assert set(selection.rows.tolist()) == set(range(3, 23))
    nothing = np.empty((0, 32), dtype=np.float32)
    assert selection.rows.tolist() == select_similar(pool, target, target, 20, 0.999).rows.tolist()
    assert set(select_similar(pool, target, nothing, 3, 0.999).rows.tolist()) == {0, 1, 2}


def test_a_pool_of_thousands() -> None:
    pool, target = unit(4000, 256, 1, spread=1.0), unit(1000, 256, 2, spread=1.0)
    assert len(select_similar(pool, target, target, 500, 0.99).rows) == 500
