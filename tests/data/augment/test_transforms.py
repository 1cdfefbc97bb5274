"""Transforms of albumentations as augmentation steps."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import (
    augmented_geometry,
    build_augmentation,
)
from soups.data.augment.transforms import Transform, read_transform
from tests.data.augment.noise import noise

PREPROCESSING = Preprocessing(size=16, mean=(0.5, 0.25, 1.0), std=(0.2, 0.3, 0.1), interpolation="bilinear")


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


def saved(path: Path, *transforms: Any) -> Path:
    import albumentations

    kind = "json" if path.suffix == ".json" else "yaml"
    albumentations.save(albumentations.Compose(list(transforms)), path, data_format=kind)
    return path


@pytest.mark.parametrize("ending", [".yaml", ".json"])
def test_a_transform_from_a_file_is_applied_and_resized(tmp_path: Path, ending: str) -> None:
    import albumentations

    content = read_transform(saved(tmp_path / f"own{ending}", albumentations.CenterCrop(10, 12, p=1)))
    assert content.startswith("{") and augmented_geometry(PREPROCESSING, content).crop == 18
    image = noise(18, 18)
    expected = Image.fromarray(image[4:14, 3:15]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(build_augmentation(PREPROCESSING, content)(image, 1), np.asarray(expected))


def test_a_transform_from_a_file_depends_on_the_seed_only(tmp_path: Path) -> None:
    import albumentations

    content = read_transform(saved(tmp_path / "own.yaml", albumentations.HorizontalFlip(p=0.5)))
    augmentation, image = build_augmentation(PREPROCESSING, content), noise(16, 16)
    first = augmentation.batch([image] * 40, range(40))
    assert 8 < sum(np.array_equal(each, image) for each in first) < 32
    assert np.array_equal(augmentation.batch([image] * 40, range(40)), first)
    assert np.array_equal(augmentation(image, 31), first[31])


def test_invalid_transform_files_are_errors(tmp_path: Path) -> None:
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


def test_transforms_that_fail_or_return_no_picture_are_errors(tmp_path: Path) -> None:
    import albumentations

    large = read_transform(saved(tmp_path / "large.yaml", albumentations.CenterCrop(320, 256, p=1)))
    with pytest.raises(UsageError, match=r"images of 18 × 18 pixels(?s:.*)320(?s:.*)--cache-size"):
        build_augmentation(PREPROCESSING, large)(noise(18, 18), 1)
    floats = read_transform(saved(tmp_path / "floats.yaml", albumentations.Normalize(p=1)))
    with pytest.raises(UsageError, match=r"does not return a picture(?s:.*)float32(?s:.*)remove Normalize"):
        build_augmentation(PREPROCESSING, floats)(noise(18, 18), 1)
    assert Transform(large) == Transform(large)
