"""Preprocessing parameters: their limits, the size after resizing, and the normalisation."""

import pytest
import torch
from pydantic import ValidationError

from soups.core.preprocessing import Preprocessing, normalise

PLAIN = Preprocessing(size=224, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))


def test_the_resized_side_follows_the_crop_fraction() -> None:
    assert PLAIN.resized == 224
    assert PLAIN.model_copy(update={"crop_fraction": 0.875}).resized == 256


@pytest.mark.parametrize(
    "values", [{"size": 0}, {"size": 20_000}, {"std": (0.0, 1, 1)}, {"mean": (float("inf"), 0, 0)}, {"cut": (0, 5)}]
)
def test_values_of_a_hostile_card_are_rejected(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({**PLAIN.model_dump(), **values})


def test_a_missing_crop_is_omitted_from_the_card() -> None:
    assert "cut" not in PLAIN.model_dump()
    assert PLAIN.model_copy(update={"cut": (8, 9)}).model_dump()["cut"] == (8, 9)


def test_normalise_equals_the_formula_for_each_channel() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = normalise(images, PLAIN)
    assert found.shape == (2, 3, 3, 4) and found.dtype == torch.float32 and found.is_contiguous()
    for channel in range(3):
        expected = (images[..., channel].double() / 255 - PLAIN.mean[channel]) / PLAIN.std[channel]
        torch.testing.assert_close(found[:, channel].double(), expected, atol=1e-6, rtol=0)
