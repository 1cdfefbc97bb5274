"""Crops against torchvision, RandAugment against timm, albumentations' own files, and seeds that decide everything."""

import pickle
import random
from pathlib import Path
from typing import Any

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
from soups.data.augment.crops import Flip, RandomCrop, crop_box
from soups.data.augment.rand_augment import RandAugment, check_rand_augment
from soups.data.augment.transforms import Transform, read_transform
from soups.data.images.geometry import Geometry, resize_and_crop

PREPROCESSING = Preprocessing(size=16, mean=(0.5, 0.25, 1.0), std=(0.2, 0.3, 0.1), interpolation="bilinear")


def noise(height: int = 37, width: int = 37) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crops(size: int, rand_augment: str | None = None) -> Augmentation:
    """Random crops, and maybe a RandAugment."""
    steps: tuple[Any, ...] = (RandomCrop(size),)
    return Augmentation(size, steps if rand_augment is None else (*steps, RandAugment(rand_augment, size)))


def test_cut_and_resize_equal_torchvisions() -> None:
    from torchvision.transforms.functional import InterpolationMode, resized_crop

    augmentation = crops(32)
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

    plain, strong = crops(32), crops(32, "rand-m9-n2")
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
    augmentation = crops(32, rand_augment)
    batch = augmentation.batch([noise()] * 6, [3, 1, 4, 1, 5, 9])
    assert batch.shape == (6, 32, 32, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch[1], batch[3]) and len({image.tobytes() for image in batch}) == 5
    assert np.array_equal(batch[4], augmentation(noise(), 5))
    again = pickle.loads(pickle.dumps(augmentation))
    assert again == augmentation and np.array_equal(again(noise(), 5), batch[4])


@pytest.mark.parametrize("rand_augment", [None, "rand-m9-n2"])
def test_global_generators_are_left_as_they_were(rand_augment: str | None) -> None:
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


def test_from_preprocessing() -> None:
    steps = (RandomCrop(16, "bilinear"), RandAugment("rand-m1-n1", 16, (128, 64, 255)))
    assert build_augmentation(PREPROCESSING, "crop", "rand-m1-n1") == Augmentation(16, steps, "bilinear")
    assert build_augmentation(PREPROCESSING) == Augmentation(16, steps[:1], "bilinear")


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
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a RandAugment string(.|\n)*such as rand-m9-n2"):
        check_rand_augment(text)


# Kinds


@pytest.mark.parametrize("name", ["base", "none"])
def test_without_chance_a_model_is_trained_on_what_it_is_evaluated_on(name: str) -> None:
    from soups.data.images.geometry import evaluation_geometry

    assert augmented_geometry(PREPROCESSING, name) == evaluation_geometry(PREPROCESSING)
    assert augmented_preprocessing(PREPROCESSING, name) == PREPROCESSING
    image = noise(16, 16)
    assert np.array_equal(build_augmentation(PREPROCESSING, name)(image, 5), image)


def test_custom_looks_at_the_middle_ever_after() -> None:
    preprocessing = augmented_preprocessing(PREPROCESSING, "custom")
    assert (preprocessing.cut, preprocessing.resize) == ((320, 256), "squash")
    geometry = augmented_geometry(preprocessing, "custom")
    assert geometry == Geometry(16, 16, "bilinear", "squash", (320, 256))
    portrait = noise(512, 384)
    middle = Image.fromarray(portrait[96:416, 64:320]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_and_crop(portrait, geometry), np.asarray(middle))


def test_custom_jitters_colours_and_adds_noise() -> None:
    augmentation = build_augmentation(PREPROCESSING, "custom")
    grey = np.full((16, 16, 3), 128, dtype=np.uint8)
    batch = augmentation.batch([grey] * 200, range(200)).astype(float)
    brightness = batch.mean(axis=(1, 2, 3))
    assert 128 * 0.9 - 5 < brightness.min() < 120 and 136 < brightness.max() < 128 * 1.1 + 5
    spread = (batch - batch.mean(axis=(1, 2), keepdims=True)).std()
    assert abs(spread - 255 * 0.2) < 5  # One deviation of the normalised input: the mean of `std` is 0.2.
    assert np.array_equal(augmentation(grey, 7), batch[7])
    assert np.array_equal(pickle.loads(pickle.dumps(augmentation))(grey, 7), batch[7])


def test_copies_are_the_same_mirrored_or_another_kind() -> None:
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


# albumentations' own files


def saved(path: Path, *transforms: Any) -> Path:
    import albumentations

    kind = "json" if path.suffix == ".json" else "yaml"
    albumentations.save(albumentations.Compose(list(transforms)), path, data_format=kind)
    return path


@pytest.mark.parametrize("ending", [".yaml", ".json"])
def test_a_file_of_one_s_own_is_applied_and_brought_to_size(tmp_path: Path, ending: str) -> None:
    import albumentations

    content = read_transform(saved(tmp_path / f"own{ending}", albumentations.CenterCrop(10, 12, p=1)))
    assert content.startswith("{") and augmented_geometry(PREPROCESSING, content).crop == 18
    image = noise(18, 18)
    expected = Image.fromarray(image[4:14, 3:15]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(build_augmentation(PREPROCESSING, content)(image, 1), np.asarray(expected))


def test_a_file_s_chance_comes_from_the_seed_alone(tmp_path: Path) -> None:
    import albumentations

    content = read_transform(saved(tmp_path / "own.yaml", albumentations.HorizontalFlip(p=0.5)))
    augmentation, image = build_augmentation(PREPROCESSING, content), noise(16, 16)
    first = augmentation.batch([image] * 40, range(40))
    assert 8 < sum(np.array_equal(each, image) for each in first) < 32
    assert np.array_equal(augmentation.batch([image] * 40, range(40)), first)
    assert np.array_equal(augmentation(image, 31), first[31])


def test_files_that_are_no_transform(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    with pytest.raises(UsageError, match=r"own\.yaml: no such file"):
        read_transform(path)
    for text, words in [
        ("a: [", "not readable YAML"),
        ("a: b", "not a transform of albumentations"),
        ("- 1", "not a transform of albumentations"),
        ("transform: {__class_fullname__: os.system, p: 1}", "unknown transform 'os.system'"),
        ("transform: {__class_fullname__: HorizontalFlip, p: 1, often: 3}", r"'often' are not valid"),
        ("transform: {__class_fullname__: HorizontalFlip, p: x}", "not a transform of albumentations"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError, match=words) as raised:
            read_transform(path)
        assert str(path) in str(raised.value)


def test_transforms_that_give_no_picture_or_take_none(tmp_path: Path) -> None:
    import albumentations

    large = read_transform(saved(tmp_path / "large.yaml", albumentations.CenterCrop(320, 256, p=1)))
    with pytest.raises(UsageError, match=r"images of 18 × 18 pixels(?s:.*)320(?s:.*)--cache-size"):
        build_augmentation(PREPROCESSING, large)(noise(18, 18), 1)
    floats = read_transform(saved(tmp_path / "floats.yaml", albumentations.Normalize(p=1)))
    with pytest.raises(UsageError, match=r"does not return a picture(?s:.*)float32(?s:.*)remove Normalize"):
        build_augmentation(PREPROCESSING, floats)(noise(18, 18), 1)
    assert Transform(large) == Transform(large)
