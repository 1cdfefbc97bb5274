"""Duplicates between sets: equal files, equal pixels, near duplicates and errors."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from soups.core.errors import DataError
from soups.data.duplicates import (
    COLUMNS,
    NEAR,
    check_leaks,
    describe_conflicts,
    find_duplicates,
    format_counts,
    most_similar,
)


def picture(seed: int, side: int = 48) -> Image.Image:
    """Return smooth shapes with noise, similar to a photograph."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((side, side), 3)
    pixels = np.asarray(coarse) + generator.normal(0, 8, (side, side, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> pd.DataFrame:
    """Write six different images for each set; return their table."""
    rows = []
    for place, split in enumerate(("train", "val", "test", "blur")):
        (tmp_path / split).mkdir()
        for number in range(6):
            name = f"{split}/{number}.png"
            picture(100 * place + number).save(tmp_path / name)
            rows.append((name, split))
    return pd.DataFrame(rows, columns=["image", "split"], dtype=str)


def find(data: pd.DataFrame, root: Path, near: bool = True) -> list[tuple[str, str, str]]:
    found = find_duplicates(data, root, root / "cache", near)
    assert list(found.columns) == list(COLUMNS)
    return list(found[["image_a", "image_b", "kind"]].itertuples(index=False, name=None))


def test_different_pictures_are_no_duplicates(data: pd.DataFrame, tmp_path: Path) -> None:
    assert find(data, tmp_path) == []
    check_leaks(find_duplicates(data, tmp_path, tmp_path / "cache", True))


def test_equal_files_equal_pixels_and_near_ones(data: pd.DataFrame, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "train/1.png", tmp_path / "test/5.png")
    shutil.copy(tmp_path / "train/1.png", tmp_path / "blur/0.png")
    picture(2).save(tmp_path / "val/0.png", compress_level=1)
    picture(103).save(tmp_path / "test/2.png", "JPEG", quality=60)
    assert find(data, tmp_path) == [
        ("train/1.png", "blur/0.png", "bytes"),
        ("train/1.png", "test/5.png", "bytes"),
        ("val/3.png", "test/2.png", "near"),
        ("train/2.png", "val/0.png", "pixels"),
    ]
    assert find(data, tmp_path, near=False) == [
        ("train/1.png", "blur/0.png", "bytes"),
        ("train/1.png", "test/5.png", "bytes"),
    ]
    found = find_duplicates(data, tmp_path, tmp_path / "cache", True)
    assert format_counts(found) == (
        "duplicate images between sets: train and blur 1 equal, 0 nearly; train and test 1 equal, 0 nearly; "
        "train and val 1 equal, 0 nearly; val and test 0 equal, 1 nearly"
    )
    with pytest.raises(
        DataError, match=r"^1 test images are training images too: train/1\.png = test/5\.png(.|\n)*--allow"
    ):
        check_leaks(found)
    check_leaks(found[found["split_b"] != "test"])


def test_test_images_are_not_compared_with_shifts(data: pd.DataFrame, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "test/1.png", tmp_path / "blur/1.png")
    assert find(data, tmp_path) == []


CHANGES = {
    "jpeg": lambda image, path: image.save(path, "JPEG", quality=60),
    "webp": lambda image, path: image.save(path, "WEBP", quality=70),
    "larger": lambda image, path: image.resize((77, 77), Image.Resampling.BICUBIC).save(path, "PNG"),
    "smaller": lambda image, path: image.resize((32, 32), Image.Resampling.LANCZOS).save(path, "PNG"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_threshold_keeps_changed_copies_apart_from_similar_pictures(change: str, tmp_path: Path) -> None:
    small = [np.asarray(picture(seed).resize((16, 16), 2)) for seed in range(40)]
    copies = []
    for seed in range(40):
        CHANGES[change](picture(seed), tmp_path / "copy")
        copies.append(np.asarray(Image.open(tmp_path / "copy").convert("RGB").resize((16, 16), 2)))
    best, value = most_similar(np.stack(copies), np.stack(small))
    assert best.tolist() == list(range(40)) and value.min() > NEAR + 0.005
    # Alike, but not the same: another grain and light, or moved by three pixels.
    brighter = [
        np.asarray(picture(seed).point(lambda level: min(255, level + 25)).resize((16, 16), 2)) for seed in range(40)
    ]
    moved = [np.asarray(picture(seed).crop((3, 3, 48, 48)).resize((16, 16), 2)) for seed in range(40)]
    blurred = [np.asarray(picture(seed).filter(ImageFilter.GaussianBlur(4)).resize((16, 16), 2)) for seed in range(40)]
    for others in (brighter, moved, blurred):
        assert most_similar(np.stack(others), np.stack(small))[1].max() < NEAR


def test_similarity_equals_the_formula(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pictures, others = generator.integers(0, 255, (5, 4, 4, 3)), generator.integers(0, 255, (7, 4, 4, 3))
    pictures[3], others[2], others[5] = 7, 7, 7

    def slow(one: np.ndarray, other: np.ndarray) -> float:
        covariance = np.mean((one - one.mean()) * (other - other.mean()))
        spread = one.var() + other.var() + (one.mean() - other.mean()) ** 2
        return 2 * covariance / spread if spread else 1.0

    table = np.array([[slow(one, other) for other in others] for one in pictures])
    best, value = most_similar(pictures.astype(np.uint8), others.astype(np.uint8))
    assert best.tolist() == table.argmax(axis=1).tolist() and best[3] == 2
    np.testing.assert_allclose(value, table.max(axis=1), atol=1e-5)


def test_equal_files_with_different_labels_are_named(data: pd.DataFrame, tmp_path: Path) -> None:
    labels = data.assign(label=["cat", "dog"] * 12)
    assert describe_conflicts(labels, tmp_path, tmp_path / "cache") == ""
    for copy in ("train/3.png", "train/4.png", "val/1.png"):
        shutil.copy(tmp_path / "train/0.png", tmp_path / copy)
    shutil.copy(tmp_path / "train/1.png", tmp_path / "val/5.png")
    labels.loc[labels["image"] == "train/4.png", "label"] = ""
    equal = "train/0.png (cat) = train/3.png (dog) = val/1.png (dog)"
    expected = f"1 images have several labels: {equal}; correct them with --relabel"
    assert describe_conflicts(labels, tmp_path, tmp_path / "cache") == expected
