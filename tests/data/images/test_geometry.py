"""Resize and centre crop, against open_clip's transform."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.images.geometry import Geometry, evaluation_geometry, resize_and_crop, training_geometry, visible_box

PREPROCESSING = Preprocessing(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SIZES = [(32, 32), (33, 32), (31, 77), (100, 50), (7, 5), (500, 333), (32, 45), (1, 60), (64, 64)]


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_equals_open_clips_evaluation_bit_for_bit(size: tuple[int, int], mode: str, interpolation: str) -> None:
    from open_clip.transform import image_transform

    preprocessing = PREPROCESSING.model_copy(update={"resize": mode, "interpolation": interpolation})
    transform = image_transform(32, is_train=False, resize_mode=mode, interpolation=interpolation)
    # Without ToTensor and Normalize, which follow as the last two steps.
    expected = Image.fromarray(noise(*size))
    for step in transform.transforms[:-2]:
        expected = step(expected)
    assert np.array_equal(resize_and_crop(noise(*size), evaluation_geometry(preprocessing)), np.asarray(expected))


def test_crop_fraction_cuts_the_middle_of_a_larger_image() -> None:
    geometry = evaluation_geometry(PREPROCESSING.model_copy(update={"crop_fraction": 0.875}))
    assert geometry == Geometry(37, 32)
    image = noise(40, 37)
    assert np.array_equal(resize_and_crop(image, geometry), image[2:34, 4:36])


def test_the_training_geometry_has_a_margin() -> None:
    assert training_geometry(PREPROCESSING) == Geometry(37, 37)
    assert training_geometry(PREPROCESSING, 64) == Geometry(64, 64)
    with pytest.raises(UsageError, match=r"--cache-size 31: smaller(.|\n)*at least 32"):
        training_geometry(PREPROCESSING, 31)


def test_an_extreme_aspect_ratio_does_not_exhaust_memory() -> None:
    line = noise(60_000, 1)
    pixels = resize_and_crop(line, Geometry(64, 64))
    # 64 of 3,840,000 columns lie within one pixel of the line.
    assert pixels.shape == (64, 64, 3) and np.ptp(pixels.astype(int), axis=(0, 1)).max() < 255
    nearest = resize_and_crop(np.repeat(line, 64, axis=0)[:, 29_968:30_032], Geometry(64, 64)).reshape(-1, 3)
    assert np.abs(pixels.mean(axis=(0, 1)) - nearest[31:33].mean(axis=0)).max() < 64


def test_long_images_are_cut_as_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    import soups.data.images.geometry as module

    image = noise(400, 50)
    plain = resize_and_crop(image, Geometry(32, 32))
    monkeypatch.setattr(module, "_LONG", 4)
    assert np.abs(resize_and_crop(image, Geometry(32, 32)).astype(int) - plain).max() <= 1


def test_the_input_does_not_change_and_the_output_is_writable() -> None:
    image = noise(32, 32)
    image.flags.writeable = False
    pixels = resize_and_crop(image, Geometry(32, 32))
    pixels[:] = 0
    assert image.any()


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (24, 24), (600, 5)])
@pytest.mark.parametrize("cut", [None, (26, 22)])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_the_visible_box_is_the_cropped_part(size: tuple[int, int], cut: tuple[int, int] | None, mode: Any) -> None:
    width, height = size
    # Each pixel says where it is, so the result says what it shows.
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    image = np.stack([columns % 256, rows % 256, columns // 256], axis=2).astype(np.uint8)
    geometry = Geometry(16, 12, "nearest", mode, cut)
    left, top, right, bottom = visible_box(width, height, geometry)
    shown = resize_and_crop(image, geometry).astype(int)
    places = (np.arange(12) + 0.5) / 12
    found = shown[0, :, 0] + 256 * shown[0, :, 2]
    assert np.abs(found + 0.5 - (left + places * (right - left))).max() <= 1.01
    assert np.abs(shown[:, 0, 1] + 0.5 - (top + places * (bottom - top))).max() <= 1.01
