"""timm's RandAugment as an augmentation step."""

import random

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import UsageError
from soups.data.augment.crops import crop_box
from soups.data.augment.rand_augment import RandAugment
from tests.data.augment.noise import crops, noise


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
    images = crops(16, text).batch([noise(18, 18)] * 60, range(60))
    assert images.shape == (60, 16, 16, 3)


def test_posterize_keeps_a_bit() -> None:
    """At magnitude 0, timm's own posterize keeps no bit, which is an error in Pillow 13."""
    operations = RandAugment("rand-m0-n1", 16).operations
    posterize = next(operation for operation in operations.ops if operation.name == "Posterize")  # type: ignore[attr-defined]
    posterize.prob = 1.0
    assert np.array_equal(np.asarray(posterize(Image.fromarray(noise()))), noise() & 128)


@pytest.mark.parametrize("text", ["augmix-m3", "rand-x9", "", "original"])
def test_invalid_rand_augment_strings_are_errors(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a RandAugment string(.|\n)*such as rand-m9-n2"):
        _ = RandAugment(text, 16).operations
