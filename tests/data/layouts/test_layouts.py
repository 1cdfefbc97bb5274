"""The registry of layouts, and separate test images."""

from pathlib import Path

import pytest

from soups.core.errors import DataError, UsageError
from soups.data.layouts.layouts import LAYOUTS, find_layout
from soups.data.settings import DataSettings
from tests.data.data_sets import read_test_location, touch


def test_known_layouts() -> None:
    assert list(LAYOUTS) == ["folder", "csv", "metadata", "profile"]
    with pytest.raises(UsageError, match=r"unknown layout 'profil'(?s:.*)did you mean 'profile'"):
        find_layout(DataSettings(layout="profil"))


def test_test_images_outside_the_data_location(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "train/a/1.png", "train/b/2.png").resolve()
    touch(tmp_path, "flat/7.png", "sorted/a/8.png", "kaggle/images/9.png", "kaggle/sample_submission.csv")
    assert read_test_location(data, tmp_path / "flat") == [("../flat/7.png", "", "test")]
    assert read_test_location(data, tmp_path / "sorted") == [("../sorted/a/8.png", "a", "test")]
    assert read_test_location(data, tmp_path / "kaggle") == [("../kaggle/images/9.png", "", "test")]
    assert (data / read_test_location(data, tmp_path / "flat")[0][0]).is_file()
    with pytest.raises(DataError, match=r"--test-location .*none: no such folder"):
        read_test_location(data, tmp_path / "none")


def test_test_images_without_classes_and_a_single_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = touch(tmp_path / "data", "train/a/1.png", "train/b/2.png")
    new = touch(tmp_path / "new", "x/7.png", "y/z/8.png")
    assert read_test_location(data, new) == [("../new/x/7.png", "", "test"), ("../new/y/z/8.png", "", "test")]
    assert "no folder in it is a class, so its 2 images have no labels: x, y" in caplog.text
    assert read_test_location(data, new / "x" / "7.png") == [("../new/x/7.png", "", "test")]
    for folder, message in (("a", "images: x, y"), ("A", r"write A as a")):
        touch(new, f"{folder}/9.png")
        with pytest.raises(DataError, match=message):
            read_test_location(data, new)
        (new / folder / "9.png").rename(new / "x" / f"{folder}.png")
        (new / folder).rmdir()
    touch(tmp_path, "new.zip")
    with pytest.raises(DataError, match=r"--test-location \S+new\.zip: is not a folder(?s:.*)unzip"):
        read_test_location(data, tmp_path / "new.zip")


def test_a_linked_data_location_still_finds_its_test_images(tmp_path: Path) -> None:
    touch(tmp_path, "disk/deep/data/train/a/1.png", "eval/7.png")
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "deep" / "data")
    name = read_test_location(tmp_path / "data", tmp_path / "eval")[0][0]
    assert (tmp_path / "data" / name).is_file()
