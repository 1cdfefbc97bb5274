"""The in-memory cache: equal pixels, decoded once."""

from pathlib import Path

import numpy as np
import pytest

from soups.core.preprocessing import Preprocessing
from soups.data.images import cache
from soups.data.images.cache import open_images
from soups.data.images.geometry import evaluation_geometry
from soups.data.images.memory_cache import MemoryCachedImages

PREPROCESSING = Preprocessing(size=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


@pytest.mark.parametrize(("mode", "limit", "decoded"), [("off", 2**31, 5), ("off", 2 * 48, 2 + 2 * 3), ("on", 0, 0)])
def test_cached_images_are_equal_and_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, limit: int, decoded: int
) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (6, 5, 3), dtype=np.uint8)).save(path)
    images = open_images(paths, evaluation_geometry(PREPROCESSING), mode, tmp_path / "cache")
    expected = images.take([3, 1, 0, 4, 2])
    read: list[Path] = []
    prepare = cache._read_image
    monkeypatch.setattr(cache, "_read_image", lambda geometry, path: read.append(path) or prepare(geometry, path))
    held = MemoryCachedImages(images, limit)
    for _ in range(2):
        assert np.array_equal(held.take([3, 1, 0, 4, 2]), expected)
    assert np.array_equal(held.take(np.array([1, 1])), expected[[1, 1]])
    assert len(read) == decoded
    held.take([0])[:] = 7
    assert np.array_equal(held.take([0]), expected[[2]])
