"""Augmentations: kinds, copies and dependence on the seed only."""

import pickle
import random

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import (
    AUGMENTATIONS,
    Augmentation,
    augmented_geometry,
    augmented_preprocessing,
    build_augmentation,
    copies_augmentation,
    find_augmentation,
)
from soups.data.augment.crops import Flip, RandomCrop
from soups.data.augment.rand_augment import RandAugment
from soups.data.images.geometry import Geometry, resize_and_crop
from tests.data.augment.noise import crops, noise

PREPROCESSING = Preprocessing(size=16, mean=(0.5, 0.25, 1.0), std=(0.2, 0.3, 0.1), interpolation="bilinear")


@pytest.mark.parametrize("rand_augment", [None, "rand-m9-n2"])
def test_augmentation_depends_on_the_seed_only(rand_augment: str | None) -> None:
    augmentation = crops(32, rand_augment)
    batch = augmentation.batch([noise()] * 6, [3, 1, 4, 1, 5, 9])
    assert batch.shape == (6, 32, 32, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch[1], batch[3]) and len({image.tobytes() for image in batch}) == 5
    assert np.array_equal(batch[4], augmentation(noise(), 5))
    again = pickle.loads(pickle.dumps(augmentation))
    assert again == augmentation and np.array_equal(again(noise(), 5), batch[4])


@pytest.mark.parametrize("rand_augment", [None, "rand-m9-n2"])
def test_global_generators_do_not_change(rand_augment: str | None) -> None:
    augmentation = crops(32, rand_augment)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    augmentation(noise(), 77)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_read_only_input_is_not_changed() -> None:
    image = noise()
    image.flags.writeable = False
    crops(32, "rand-m9-n2")(image, 1)[:] = 0
    assert np.array_equal(image, noise())


def test_size_and_steps_follow_the_preprocessing() -> None:
    steps = (RandomCrop(16, "bilinear"), RandAugment("rand-m1-n1", 16, (128, 64, 255)))
    assert build_augmentation(PREPROCESSING, "crop", "rand-m1-n1") == Augmentation(16, steps, "bilinear")
    assert build_augmentation(PREPROCESSING) == Augmentation(16, steps[:1], "bilinear")


@pytest.mark.parametrize("name", ["base", "none"])
def test_without_augmentation_training_images_equal_evaluation_images(name: str) -> None:
    from soups.data.images.geometry import evaluation_geometry

    assert augmented_geometry(PREPROCESSING, name) == evaluation_geometry(PREPROCESSING)
    assert augmented_preprocessing(PREPROCESSING, name) == PREPROCESSING
    image = noise(16, 16)
    assert np.array_equal(build_augmentation(PREPROCESSING, name)(image, 5), image)


def test_custom_sets_a_centre_cut_in_preprocessing() -> None:
    preprocessing = augmented_preprocessing(PREPROCESSING, "custom")
    assert (preprocessing.cut, preprocessing.resize) == ((320, 256), "squash")
    geometry = augmented_geometry(preprocessing, "custom")
    assert geometry == Geometry(16, 16, "bilinear", "squash", (320, 256))
    portrait = noise(512, 384)
    middle = Image.fromarray(portrait[96:416, 64:320]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_and_crop(portrait, geometry), np.asarray(middle))


def test_augmentations_of_copies() -> None:
    own = build_augmentation(PREPROCESSING)
    assert copies_augmentation(PREPROCESSING, own, "same", None) is own
    assert copies_augmentation(PREPROCESSING, own, "flip", None).steps == (Flip(), *own.steps)
    assert copies_augmentation(PREPROCESSING, own, "none", None) == Augmentation(16, (), "bilinear")
    image = noise(20, 20)
    flipped = copies_augmentation(PREPROCESSING, own, "flip", None)(image, 3)
    assert np.array_equal(flipped, own(np.ascontiguousarray(image[:, ::-1]), 3))


def test_known_kinds() -> None:
    assert list(AUGMENTATIONS) == ["crop", "randaugment", "base", "none", "custom"]
    with pytest.raises(UsageError, match=r"unknown augmentation 'costum'(?s:.*)did you mean 'custom'"):
        find_augmentation("costum")
