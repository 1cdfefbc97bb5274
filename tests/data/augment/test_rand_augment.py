"""timm's RandAugment as an augmentation step."""

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import UsageError
from soups.data.augment.augment import (
    Augmentation,
)
from soups.data.augment.crops import RandomCrop, crop_box
from soups.data.augment.rand_augment import RandAugment, check_rand_augment


def noise(height: int = 37, width: int = 37) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crops(size: int, rand_augment: str | None = None) -> Augmentation:
    """Random crops, and maybe a RandAugment."""
    steps: tuple[Any, ...] = (RandomCrop(size),)
    return Augmentation(size, steps if rand_augment is None else (*steps, RandAugment(rand_augment, size)))


def test_rand_augment_equals_timm() -> None:
    from timm.data.auto_augment import rand_augment_transform

    plain, strong = crops(32), crops(32, "rand-m9-n2")
    operations = rand_augment_transform("rand-m9-n2", {"translate_const": 14, "img_mean": (124, 116, 104)})
    for seed in range(10):
        draws = random.Random(seed)
        crop_box(37, 37, (0.9, 1.0), (3 / 4, 4 / 3), draws)
        random.seed(draws.getrandbits(63))
        np.random.seed(draws.getrandbits(32))  # noqa: NPY002
        expected = operations(Image.fromarray(plain(noise(), seed)))
        assert np.array_equal(strong(noise(), seed), np.asarray(expected))


STRINGS = [f"rand-m{magnitude}-n{magnitude % 3}" for magnitude in range(21)] + ["rand-m9-n3-mstd0.5-inc1", "rand-m0-n9"]


@pytest.mark.parametrize("text", STRINGS)
def test_every_rand_augment_of_the_paper_works(text: str) -> None:
    check_rand_augment(text)
    images = crops(16, text).batch([noise(18, 18)] * 60, range(60))
    assert images.shape == (60, 16, 16, 3)


def test_posterize_keeps_a_bit() -> None:
    """timm's own posterize keeps none at magnitude 0, which Pillow 13 refuses."""
    operations = RandAugment("rand-m0-n1", 16).operations
    posterize = next(operation for operation in operations.ops if operation.name == "Posterize")  # type: ignore[attr-defined]
    posterize.prob = 1.0
    assert np.array_equal(np.asarray(posterize(Image.fromarray(noise()))), noise() & 128)


@pytest.mark.parametrize("text", ["augmix-m3", "rand-x9", "", "original"])
def test_invalid_rand_augment_strings_are_errors(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a RandAugment string(.|\n)*such as rand-m9-n2"):
        check_rand_augment(text)
