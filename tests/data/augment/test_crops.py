"""Random crops: the same pixels and the same distribution as torchvision's."""

import random

import numpy as np
import pytest
from PIL import Image

from soups.data.augment.crops import crop_box
from tests.data.augment.noise import crops, noise


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
