"""Crops against torchvision, RandAugment against timm, and seeds that decide everything."""

import pickle
import random

import numpy as np
import pytest
from PIL import Image

from soups.data.augment import Augmentation, check_rand_augment, crop_box
from soups.errors import UsageError
from soups.preprocessing import Preprocessing


def noise(height: int = 37, width: int = 37) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_cut_and_resize_equal_torchvisions() -> None:
    from torchvision.transforms.functional import InterpolationMode, resized_crop

    augmentation = Augmentation(32)
    for seed in range(20):
        left, top, width, height = crop_box(45, 37, (0.9, 1.0), (3 / 4, 4 / 3), random.Random(seed))
        picture = Image.fromarray(noise(37, 45))
        expected = resized_crop(picture, top, left, height, width, [32, 32], InterpolationMode.BICUBIC)
        assert np.array_equal(augmentation(noise(37, 45), seed), np.asarray(expected))


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(37, 37, (0.9, 1.0)), (60, 40, (0.08, 1.0)), (200, 10, (0.9, 1.0))]
)
def test_crops_are_distributed_as_torchvisions(width: int, height: int, scale: tuple[float, float]) -> None:
    import torch
    from torchvision.transforms import RandomResizedCrop

    ratio, draws, count = (3 / 4, 4 / 3), random.Random(0), 3000
    ours = np.array([crop_box(width, height, scale, ratio, draws) for _ in range(count)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        picture = Image.new("L", (width, height))
        theirs = np.array([RandomResizedCrop.get_params(picture, list(scale), list(ratio)) for _ in range(count)])
    theirs = theirs[:, [1, 0, 3, 2]]  # They give top, left, height, width.
    assert (ours[:, :2] >= 0).all() and (ours[:, 0] + ours[:, 2] <= width).all()
    assert (ours[:, 1] + ours[:, 3] <= height).all()
    error = 5 * np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / count) + 1e-9
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) <= error).all()
    assert np.allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.15, atol=0.05)


def test_rand_augment_is_timms() -> None:
    from timm.data.auto_augment import rand_augment_transform

    plain, strong = Augmentation(32), Augmentation(32, rand_augment="rand-m9-n2")
    operations = rand_augment_transform("rand-m9-n2", {"translate_const": 14, "img_mean": (124, 116, 104)})
    for seed in range(10):
        draws = random.Random(seed)
        crop_box(37, 37, (0.9, 1.0), (3 / 4, 4 / 3), draws)
        random.seed(draws.getrandbits(63))
        np.random.seed(draws.getrandbits(32))  # noqa: NPY002
        expected = operations(Image.fromarray(plain(noise(), seed)))
        assert np.array_equal(strong(noise(), seed), np.asarray(expected))


@pytest.mark.parametrize("rand_augment", [None, "rand-m9-n2"])
def test_the_seed_alone_decides(rand_augment: str | None) -> None:
    augmentation = Augmentation(32, rand_augment=rand_augment)
    batch = augmentation.batch([noise()] * 6, [3, 1, 4, 1, 5, 9])
    assert batch.shape == (6, 32, 32, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch[1], batch[3]) and len({image.tobytes() for image in batch}) == 5
    assert np.array_equal(batch[4], augmentation(noise(), 5))
    again = pickle.loads(pickle.dumps(augmentation))
    assert again == augmentation and np.array_equal(again(noise(), 5), batch[4])


@pytest.mark.parametrize("rand_augment", [None, "rand-m9-n2"])
def test_global_generators_are_left_as_they_were(rand_augment: str | None) -> None:
    augmentation = Augmentation(32, rand_augment=rand_augment)
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
    Augmentation(32, rand_augment="rand-m9-n2")(image, 1)[:] = 0
    assert np.array_equal(image, noise())


def test_from_preprocessing() -> None:
    preprocessing = Preprocessing(size=16, mean=(0.5, 0.25, 1.0), std=(1, 1, 1), interpolation="bilinear")
    expected = Augmentation(16, "bilinear", "rand-m1-n1", fill=(128, 64, 255))
    assert Augmentation.of(preprocessing, "rand-m1-n1") == expected


STRINGS = [f"rand-m{magnitude}-n{magnitude % 3}" for magnitude in range(21)] + ["rand-m9-n3-mstd0.5-inc1", "rand-m0-n9"]


@pytest.mark.parametrize("text", STRINGS)
def test_every_rand_augment_of_the_paper_works(text: str) -> None:
    check_rand_augment(text)
    images = Augmentation(16, rand_augment=text).batch([noise(18, 18)] * 60, range(60))
    assert images.shape == (60, 16, 16, 3)


def test_posterize_keeps_a_bit() -> None:
    """timm's own posterize keeps none at magnitude 0, which Pillow 13 refuses."""
    operations = Augmentation(16, rand_augment="rand-m0-n1")._operations
    posterize = next(operation for operation in operations.ops if operation.name == "Posterize")  # type: ignore[attr-defined]
    posterize.prob = 1.0
    assert np.array_equal(np.asarray(posterize(Image.fromarray(noise()))), noise() & 128)


@pytest.mark.parametrize("text", ["augmix-m3", "rand-x9", "", "original"])
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a RandAugment string(.|\n)*such as rand-m9-n2"):
        check_rand_augment(text)
