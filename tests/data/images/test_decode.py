"""Decoding of valid and damaged files of every format."""

import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import DataError
from soups.data.images.decode import decode, find_unreadable, unreadable_error


def gradient(height: int = 6, width: int = 8) -> np.ndarray:
    """(H, W, 3) uint8 with a different value in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 20, y * 30, (x + y) * 10], axis=2).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb_is_taken_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(gradient()))
    pixels = decode(path)
    assert pixels.dtype == np.uint8 and pixels.flags.owndata and pixels.flags.writeable
    assert np.array_equal(pixels, gradient())


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.tiff", "a.webp", "a.ppm", "a.tga", "a.gif", "a.jp2", "a.avif"])
def test_formats_give_what_pillow_gives(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, Image.fromarray(gradient(16, 16)))
    with Image.open(path) as image:
        assert np.array_equal(decode(path), np.asarray(image.convert("RGB")))


def test_grey_and_one_bit_become_three_equal_channels(tmp_path: Path) -> None:
    values = gradient()[:, :, 0]
    grey = decode(saved(tmp_path / "l.png", Image.fromarray(values)))
    assert np.array_equal(grey, np.stack([values] * 3, axis=2))
    bits = decode(saved(tmp_path / "bit.png", Image.fromarray(values > 60)))
    assert np.array_equal(bits[:, :, 1], np.where(values > 60, 255, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1), 0)
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (100, alpha) if mode == "LA" else (100, 100, 100, alpha))
    pixels = decode(saved(tmp_path / "a.png", image))
    assert pixels[0, 0].tolist() == [255] * 3
    assert np.abs(pixels[0, 1].astype(int) - (100 * 128 + 255 * 127) / 255).max() <= 1
    assert pixels[0, 2].tolist() == [100] * 3


def test_transparent_palette_colour_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("L").convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    pixels = decode(saved(tmp_path / "p.png", image, transparency=0))
    assert pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]
    several = decode(saved(tmp_path / "bytes.png", image, transparency=b"\x00\xff"))
    assert several.tolist() == pixels.tolist()


def test_transparent_colour_of_rgb_is_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    pixels = decode(saved(tmp_path / "a.png", image, transparency=(1, 2, 3)))
    assert pixels.tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK")
    pixels = decode(saved(tmp_path / "a.jpg", image, quality=100))
    assert np.abs(pixels.astype(int) - [220, 30, 40]).max() < 12


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.pgm"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 128, 129, 257, 25700, 65535]], dtype=np.uint16)
    pixels = decode(saved(tmp_path / name, Image.fromarray(values)))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 100, 255]
    assert pixels.shape == (1, 6, 3)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_turned_by_exif(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.array([[0, 25700], [257, 65535]], dtype="<u2" if mode == "I;16" else ">u2")
    image = Image.frombytes(mode, (2, 2), values.tobytes())
    pixels = decode(saved(tmp_path / "a.tiff", image, exif=exif))
    assert pixels[:, :, 0].tolist() == [[1, 0], [255, 100]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-3.0, 0.0, 3.0], [0, 128, 255]),
        ([np.nan, 0.0, 1.0], [0, 0, 255]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_floats_are_scaled_by_their_range(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.array([values], dtype=np.float32)))
    assert decode(path)[0, :, 2].tolist() == expected


def test_whole_numbers_of_32_bits(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.array([[0, 2**20, 2**21]], dtype=np.int32)))
    assert decode(path)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.jpg", Image.fromarray(gradient(16, 32)), exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(decode(path), expected)
    assert decode(path).shape[:2] == ((16, 32) if orientation < 5 else (32, 16))


def test_an_image_with_damaged_exif_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(gradient()), exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert decode(path).shape == (6, 8, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_animations_give_their_first_frame(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert np.abs(decode(path)[4, 4].astype(int) - [200, 0, 0]).max() <= 2


def truncated(path: Path, kind: str) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that claims 100,000 × 100,000 pixels."""
    Image.new("L", (1, 1)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def text(path: Path) -> Path:
    path.write_text("this is no image", encoding="utf-8")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def postscript(path: Path) -> Path:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    return path


BROKEN: list[tuple[Callable[[Path], Path], str]] = [
    (lambda path: truncated(path, "JPEG"), "damaged"),
    (lambda path: truncated(path, "PNG"), "damaged"),
    (lambda path: truncated(path, "GIF"), "damaged"),
    (lambda path: truncated(path, "WEBP"), "damaged|not an image"),
    (lambda path: truncated(path, "TIFF"), "damaged|not an image"),
    (bomb, "more pixels than is safe"),
    (text, "not an image"),
    (empty, "the file is empty"),
    (pipe, "a pipe or device, not a file"),
    (folder, "a folder, not a file"),
    (postscript, "not an image"),
    (lambda path: path, "no such file"),
]


@pytest.mark.parametrize(("make", "reason"), BROKEN)
def test_damaged_files_are_errors_with_a_reason(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    path = make(tmp_path / "broken.jpg")
    with pytest.raises(DataError, match=rf"broken\.jpg: ({reason})"):
        decode(path)


def test_any_cut_of_a_png_is_an_image_or_a_data_error(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", Image.fromarray(gradient()))
    content, random = source.read_bytes(), np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content[: random.integers(1, len(content) + 1)])
        damaged[random.integers(len(damaged))] = random.integers(256)
        source.write_bytes(damaged)
        try:
            assert decode(source).ndim == 3
        except DataError:
            refused += 1
    assert refused > 75


def test_bad_images_are_all_listed_in_order(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{name}.png", Image.fromarray(gradient())) for name in "abcdef"]
    text(paths[1])
    truncated(paths[4], "PNG")
    found = find_unreadable(paths)
    assert [path for path, _ in found] == [paths[1], paths[4]]
    assert found[0][1] == "not an image" and found[1][1].startswith("damaged (")
    message = str(unreadable_error(found))
    assert message.startswith("2 images cannot be read") and "b.png: not an image" in message
    assert "--skip-bad-images" in message


def test_pillow_warnings_are_suppressed_and_filters_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow warns from here on, and refuses from twice as much on.
    path = saved(tmp_path / "a.png", Image.fromarray(gradient()))
    with pytest.warns(Image.DecompressionBombWarning), Image.open(path):
        pass
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(path).shape == (6, 8, 3)
        assert find_unreadable([path] * 20) == []
        warnings.warn("still heard", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["still heard"]
