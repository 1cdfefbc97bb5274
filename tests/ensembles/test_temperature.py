"""Temperature scaling against a fine grid of temperatures."""

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.scores import calibration_error, log_loss, predictions, softmax
from soups.ensembles.temperature import HIGHEST, LOWEST, fit_temperature, scale_by_temperature, to_log_probabilities


def overconfident(seed: int, factor: float, images: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `factor` times as large as the truth that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((images, 5))
    labels = np.array([rng.choice(5, p=row) for row in softmax(logits)])
    return factor * logits, labels


@pytest.mark.parametrize(("seed", "factor"), [(0, 3.0), (1, 0.4), (2, 1.0), (3, 12.0)])
def test_no_temperature_of_a_grid_is_better(seed: int, factor: float) -> None:
    logits, labels = overconfident(seed, factor)
    fitted = fit_temperature(logits, labels)
    best = log_loss(softmax(logits / fitted), labels)
    grid = np.geomspace(fitted / 3, fitted * 3, 401)
    losses = [log_loss(softmax(logits / temperature), labels) for temperature in grid]
    assert best <= min(losses) + 1e-9
    assert abs(np.log(fitted / grid[int(np.argmin(losses))])) < 0.01
    assert fitted == pytest.approx(factor, rel=0.1)


def test_scaling_improves_calibration_and_preserves_predictions() -> None:
    logits, labels = overconfident(4, 4.0)
    table = softmax(logits)
    mended = scale_by_temperature(table, fit_temperature(to_log_probabilities(table), labels))
    assert calibration_error(mended, labels) < 0.04 < 0.15 < calibration_error(table, labels)
    assert np.array_equal(predictions(mended), predictions(table))
    np.testing.assert_allclose(mended.sum(axis=1), 1)


def test_probabilities_and_logits_give_the_same_temperature() -> None:
    logits, labels = overconfident(5, 2.0)
    shifted = logits + np.arange(len(logits))[:, None]
    expected = fit_temperature(logits, labels)
    assert fit_temperature(shifted, labels) == pytest.approx(expected, rel=1e-6)
    assert fit_temperature(to_log_probabilities(softmax(logits)), labels) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(scale_by_temperature(softmax(logits), 2.5), softmax(logits / 2.5), atol=1e-12)


def test_temperatures_outside_the_bounds() -> None:
    labels = np.arange(12) % 3
    right = np.eye(3)[labels]
    assert fit_temperature(right, labels) == LOWEST
    assert fit_temperature(right, (labels + 1) % 3) == HIGHEST
    assert fit_temperature(np.zeros((12, 3)), labels) in (LOWEST, HIGHEST)
    assert (
        np.isfinite(scale_by_temperature(right, LOWEST)).all()
        and np.isfinite(scale_by_temperature(right, HIGHEST)).all()
    )


def test_it_needs_images_with_labels() -> None:
    for logits, labels in ((np.zeros((0, 3)), np.zeros(0, dtype=int)), (np.zeros((4, 3)), np.zeros(5, dtype=int))):
        with pytest.raises(DataError, match="fitting needs validation images"):
            fit_temperature(logits, labels)
