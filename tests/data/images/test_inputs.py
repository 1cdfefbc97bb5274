"""Images of all accepted types, against decoding of files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import DataError
from soups.data.images.decode import decode
from soups.data.images.geometry import Geometry, resize_and_crop
from soups.data.images.inputs import InputImages, as_list, open_inputs, read_input

GEOMETRY = Geometry(12, 10)
GENERATOR = np.random.default_rng(0)
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F")


def picture(mode: str) -> Image.Image:
    colours = GENERATOR.integers(0, 256, (18, 24, 3), dtype=np.uint8)
    if mode in {"I;16", "I", "F"}:
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray(colours[..., 0].astype(dtype) * 200)
    return Image.fromarray(colours).convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_file_and_its_picture_are_the_same(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    picture(mode).save(path)
    with Image.open(path) as opened:
        assert opened.mode == mode
        assert np.array_equal(read_input(opened), decode(path))
    pixels = decode(path)
    with Image.open(path) as opened:
        taken = open_inputs([path, opened, pixels], GEOMETRY, tmp_path).take([0, 1, 2])
    assert np.array_equal(taken, np.stack([resize_and_crop(pixels, GEOMETRY)] * 3))


def test_rotation_is_that_of_exif(tmp_path: Path) -> None:
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    picture("RGB").save(path, exif=exif)
    with Image.open(path) as opened:
        assert opened.size == (24, 18)
        assert read_input(opened).shape == (24, 18, 3)
        assert np.array_equal(read_input(opened), decode(path))


def test_one_or_several_images_are_accepted(tmp_path: Path) -> None:
    one, batch = np.zeros((4, 5, 3), np.uint8), np.zeros((3, 4, 5, 3), np.uint8)
    assert [len(as_list(given)) for given in (one, batch, [one], [one, batch, "a.png"], [])] == [1, 3, 1, 5, 0]
    assert as_list("a.png") == ["a.png"] and as_list(Path("a.png")) == [Path("a.png")]
    assert as_list(np.array(["a.png", "b.png"])) == ["a.png", "b.png"]
    assert len(as_list(picture("L"))) == 1
    assert len(open_inputs([], GEOMETRY, tmp_path)) == 0
    assert not isinstance(open_inputs([], GEOMETRY, tmp_path), InputImages)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 5), np.uint8), r"found: +\(4, 5\) uint8"),
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\) uint8"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\) uint8"),
        (np.zeros((4, 5, 3), np.int64), r"expected: \(H, W, 3\) uint8(.|\n)*int64"),
        (np.zeros((4, 5, 3), np.float32), r"float32(.|\n)*255 \* image"),
        (7, "not an image(.|\n)*PIL.Image(.|\n)*int"),
        (b"bytes", "not an image(.|\n)*bytes"),
    ],
)
def test_values_that_are_no_image_are_errors(wrong: object, words: str, tmp_path: Path) -> None:
    good = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(DataError, match=words) as caught:
        open_inputs([good, wrong, good], GEOMETRY, tmp_path)  # type: ignore[list-item]
    assert "images[1]" in str(caught.value)
    with pytest.raises(DataError, match=words):
        open_inputs(wrong, GEOMETRY, tmp_path)  # type: ignore[arg-type]


def test_pictures_of_damaged_files_and_missing_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    picture("RGB").save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:200])
    with Image.open(cut) as opened, pytest.raises(DataError, match=r"images\[1\]: damaged") as caught:
        open_inputs([whole, opened, tmp_path / "none.png"], GEOMETRY, tmp_path)
    assert "(and 1 more images)" in str(caught.value)
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        open_inputs([np.zeros((4, 5, 3), np.uint8), str(tmp_path / "none.png")], GEOMETRY, tmp_path)
