"""The layout `folder`, separate test images, and the registry of layouts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError, UsageError
from soups.data.layouts.folders import folder_samples
from soups.data.layouts.layouts import LAYOUTS, find_layout, separate_test_samples
from soups.data.settings import DataSettings


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    return root


def folder(root: Path, **settings: Any) -> list[tuple[str, ...]]:
    table = folder_samples(DataSettings(data_location=str(root), **settings))
    return list(table[["image", "label", "split"]].itertuples(index=False, name=None))


def test_known_layouts() -> None:
    assert list(LAYOUTS) == ["folder", "csv", "metadata", "profile"]
    with pytest.raises(UsageError, match=r"unknown layout 'profil'(?s:.*)did you mean 'profile'"):
        find_layout(DataSettings(layout="profil"))


def test_classes_at_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "cat/b.png", "cat/a.JPG", "dog/deep/er/c.webp", "10/x.tif", "2/x.tif")
    assert folder(tmp_path) == [
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
    assert folder(tmp_path / "plain") == [(f"{fake}/1.jpg", fake, ""), (f"{real}/1.jpg", real, "")]
    touch(tmp_path / "sets", *(f"{split}/{name}/1.JPG" for split in ("train", "test") for name in names))
    found = [(label, split) for _, label, split in folder(tmp_path / "sets")]
    assert found == [(fake, "test"), (real, "test"), (fake, ""), (real, "")]
    touch(tmp_path, "eval/7.jpg", "eval/8.jpg")
    settings = DataSettings(data_location=str(tmp_path / "plain"), test_location=str(tmp_path / "eval"))
    assert separate_test_samples(settings, set(names))["image"].tolist() == ["../eval/7.jpg", "../eval/8.jpg"]


def test_all_sets_in_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png", "shifts/blur/a/5.png")
    assert folder(tmp_path) == [
        ("shifts/blur/a/5.png", "a", "blur"),
        ("test/b/4.png", "b", "test"),
        ("train/a/1.png", "a", "train"),
        ("train/b/2.png", "b", "train"),
        ("val/a/3.png", "a", "val"),
    ]


@pytest.mark.parametrize("where", ["test", "test/images"])
def test_flat_test_images_are_unlabelled(tmp_path: Path, where: str) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", f"{where}/9.png", f"{where}/10.png", "test/sample_submission.csv")
    assert [row for row in folder(tmp_path) if row[2] == "test"] == [
        (f"{where}/10.png", "", "test"),
        (f"{where}/9.png", "", "test"),
    ]


WRONG_FOLDERS: list[tuple[list[str], str]] = [
    (["val/a/1.png", "test/a/2.png"], r"has val, test but no train(.|\n)*train/<class>"),
    (["1.png", "2.png"], r"no class folders in it(.|\n)*2 images outside(.|\n)*--layout csv"),
    (["train/1.png"], r"train: no class folders in it"),
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
        folder(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-location .*nowhere: no such folder\n  expected: a folder with train/"):
        folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a folder"):
        folder(touch(tmp_path, "file.png") / "file.png")
    with pytest.raises(UsageError, match="--data-location is not set"):
        folder_samples(DataSettings())


def outside(root: Path, test: Path) -> list[tuple[str, ...]]:
    table = separate_test_samples(DataSettings(data_location=str(root), test_location=str(test)), {"a", "b"})
    return list(table[["image", "label", "split"]].itertuples(index=False, name=None))


def test_test_images_outside_the_data_location(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "train/a/1.png", "train/b/2.png").resolve()
    touch(tmp_path, "flat/7.png", "sorted/a/8.png", "kaggle/images/9.png", "kaggle/sample_submission.csv")
    assert outside(data, tmp_path / "flat") == [("../flat/7.png", "", "test")]
    assert outside(data, tmp_path / "sorted") == [("../sorted/a/8.png", "a", "test")]
    assert outside(data, tmp_path / "kaggle") == [("../kaggle/images/9.png", "", "test")]
    assert (data / outside(data, tmp_path / "flat")[0][0]).is_file()
    with pytest.raises(DataError, match=r"--test-location .*none: no such folder"):
        outside(data, tmp_path / "none")


def test_a_linked_data_location_still_finds_its_test_images(tmp_path: Path) -> None:
    touch(tmp_path, "disk/deep/data/train/a/1.png", "eval/7.png")
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "deep" / "data")
    name = outside(tmp_path / "data", tmp_path / "eval")[0][0]
    assert (tmp_path / "data" / name).is_file()
