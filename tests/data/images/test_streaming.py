"""Streamed images: the pixels of the cache, and a list of all unreadable images."""

from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.data.images.cache import open_images
from soups.data.images.geometry import Geometry
from soups.data.images.streaming import StreamedImages
from tests.conftest import make_image

GEOMETRY = Geometry(resize=18, crop=16, interpolation="bicubic")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for path in files:
        make_image(path, (200, 100, 50), generator)
    return [*files, files[2]]


def test_pixels_are_those_of_the_cache(paths: list[Path], tmp_path: Path) -> None:
    streamed, cached = StreamedImages(paths, GEOMETRY), open_images(paths, GEOMETRY, "on", tmp_path / "cache")
    assert len(streamed) == 8 and not streamed.cached
    assert np.array_equal(streamed.take([7, 0, 3]), cached.take([7, 0, 3]))
    assert np.array_equal(streamed.take(range(8)), cached.take(range(8)))
    assert np.array_equal(streamed.subset([6, 2]).take([0, 1]), cached.take([6, 2]))


def test_all_unreadable_images_of_the_set_are_listed(paths: list[Path]) -> None:
    paths[1].write_bytes(b"")
    paths[6].write_bytes(b"no picture")
    streamed = StreamedImages(paths, GEOMETRY)
    assert len(streamed.take([0, 2])) == 2
    with pytest.raises(
        DataError, match=r"2 images cannot be read:(.|\n)*1\.png: the file is empty(.|\n)*6\.png: not an image"
    ):
        streamed.take([0, 1, 2])
