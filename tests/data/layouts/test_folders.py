"""The layout `folder`: classes, sets and errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError, UsageError
from soups.data.layouts.folders import folder_samples
from soups.data.layouts.layouts import separate_test_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import image_rows, touch


def folder_rows(root: Path, **settings: Any) -> list[tuple[str, ...]]:
    return image_rows(folder_samples(DataSettings(data_location=str(root), **settings)))


def test_classes_at_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "cat/b.png", "cat/a.JPG", "dog/deep/er/c.webp", "10/x.tif", "2/x.tif")
    assert folder_rows(tmp_path) == [
        ("10/x.tif", "10", ""),
        ("2/x.tif", "2", ""),
        ("cat/a.JPG", "cat", ""),
        ("cat/b.png", "cat", ""),
        ("dog/deep/er/c.webp", "dog", ""),
    ]


@pytest.mark.parametrize("names", [("ai", "real"), ("fake_images", "real_images"), ("FAKE", "REAL")])
def test_folders_of_real_and_generated_images(tmp_path: Path, names: tuple[str, str]) -> None:
    fake, real = names
    touch(tmp_path / "plain", f"{fake}/1.jpg", f"{real}/1.jpg")
    assert folder_rows(tmp_path / "plain") == [(f"{fake}/1.jpg", fake, ""), (f"{real}/1.jpg", real, "")]
    touch(tmp_path / "sets", *(f"{split}/{name}/1.JPG" for split in ("train", "test") for name in names))
    found = [(label, split) for _, label, split in folder_rows(tmp_path / "sets")]
    assert found == [(fake, "test"), (real, "test"), (fake, ""), (real, "")]
    touch(tmp_path, "eval/7.jpg", "eval/8.jpg")
    settings = DataSettings(data_location=str(tmp_path / "plain"), test_location=str(tmp_path / "eval"))
    assert separate_test_samples(settings, set(names))["image"].tolist() == ["../eval/7.jpg", "../eval/8.jpg"]


def test_all_sets_in_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png", "shifts/blur/a/5.png")
    assert folder_rows(tmp_path) == [
        ("shifts/blur/a/5.png", "a", "blur"),
        ("test/b/4.png", "b", "test"),
        ("train/a/1.png", "a", "train"),
        ("train/b/2.png", "b", "train"),
        ("val/a/3.png", "a", "val"),
    ]


@pytest.mark.parametrize("where", ["test", "test/images"])
def test_flat_test_images_are_unlabelled(tmp_path: Path, where: str) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", f"{where}/9.png", f"{where}/10.png", "test/sample_submission.csv")
    assert [row for row in folder_rows(tmp_path) if row[2] == "test"] == [
        (f"{where}/10.png", "", "test"),
        (f"{where}/9.png", "", "test"),
    ]


WRONG_FOLDERS: list[tuple[list[str], str]] = [
    (["val/a/1.png", "test/a/2.png"], r"has val, test but no train(.|\n)*train/<class>"),
    (["1.png", "2.png"], r"no class folders in it(.|\n)*2 images outside(.|\n)*--layout csv"),
    (["train/1.png"], r"train: no class folders in it"),
    (["train/1.png", "train/l.csv"], r"train: no class folders(.|\n)*tables: l\.csv(.|\n)*--labels \S+/train/l\.csv"),
    (["train/1.png", "train/l.csv"], r"train: no class folders(.|\n)*tables: l\.csv(.|\n)*--labels \S+/train/l\.csv"),
    (["train/a/1.png", "train/b/readme.txt", "train/c/x/.hidden"], r"train: class folders without images: b, c"),
    (["train/a/1.png", "train/b/1.png", "val/c/1.png"], r"val: classes without training images: c(.|\n)*some of a, b"),
    (["train/a/1.png", "train/b/1.png", "test/c/1.png"], r"test: classes without training images: c"),
    (["train/a/1.png", "train/b/1.png", "test/a/x.txt"], r"test: class folders without images: a"),
    (["train/a/1.png", "train/b/1.png", "shifts/fog/c/1.png"], r"shifts/fog: classes without training images: c"),
    (["train/a/1.png", "train/b/1.png", "shifts/fog/1.png"], r"shifts/fog: no class folders"),
    (["train/a/1.png", "train/b/1.png", "shifts/val/a/1.png"], r"cannot be named val"),
    (["train/a/1.png", "train/b/1.png", "test/1.png", "test/a/1.png"], r"test: 1 images beside folders \(a\)"),
    (["train/a/1.png", "train/b/1.png", "test/info.csv"], r"test: no images in it"),
]


@pytest.mark.parametrize(("names", "message"), WRONG_FOLDERS)
def test_invalid_folders_are_errors(tmp_path: Path, names: Iterable[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        folder_rows(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-location .*nowhere: no such folder\n  expected: a folder with train/"):
        folder_rows(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a folder"):
        folder_rows(touch(tmp_path, "file.png") / "file.png")
    with pytest.raises(UsageError, match="--data-location is not set"):
        folder_samples(DataSettings())
