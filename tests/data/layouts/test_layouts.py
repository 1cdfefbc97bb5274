"""Folders and tables to one samples table, and what is said when they are wrong."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError, UsageError
from soups.data.layouts.layouts import LAYOUTS, find_layout, folder_samples, separate_test_samples
from soups.data.layouts.tables import csv_samples
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


def test_litter_is_passed_over_and_other_files_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(
        tmp_path, "a/1.png", "b/2.png", "a/.ipynb_checkpoints/1.png", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/a/1.png"
    )
    touch(tmp_path, "a/notes.txt", "b/x/list.csv", "b/._2.png", ".git/a.png", "stray.png")
    with caplog.at_level("INFO"):
        assert [row[0] for row in folder(tmp_path)] == ["a/1.png", "b/2.png"]
    assert "skipped 2 files without the extension of an image" in caplog.text
    assert "skipped 1 images outside class folders" in caplog.text


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.png", "data/b/2.png")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "b" / "up").symlink_to(tmp_path / "data" / "b")
    assert folder(tmp_path / "data") == [("a/1.png", "a", ""), ("b/2.png", "b", "")]


def test_a_name_that_no_table_can_hold_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png", "b/Icon\r")
    assert len(folder(tmp_path)) == 2
    for name in ("\udcff.png", "a\rb.png"):
        try:
            (tmp_path / "b" / name).touch()
        except (OSError, UnicodeEncodeError):
            pytest.skip("this file system takes no such names")
        with pytest.raises(DataError, match=r"b: the name .* cannot be written into a table(.|\n)*UTF-8"):
            folder(tmp_path)
        (tmp_path / "b" / name).unlink()


def test_a_dead_link_of_an_images_name_is_kept_for_decoding_to_refuse(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "dead.png").symlink_to(tmp_path / "nowhere")
    assert ("a/dead.png", "a", "") in folder(tmp_path)


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
def test_wrong_folders_are_named(tmp_path: Path, names: Iterable[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        folder(tmp_path)


def test_missing_folder_names_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-location .*nowhere: no such folder\n  expected: a folder with train/"):
        folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a folder"):
        folder(touch(tmp_path, "file.png") / "file.png")
    with pytest.raises(UsageError, match="--data-location is not set"):
        folder_samples(DataSettings())


def outside(root: Path, test: Path) -> list[tuple[str, ...]]:
    table = separate_test_samples(DataSettings(data_location=str(root), test_location=str(test)), {"a", "b"})
    return list(table[["image", "label", "split"]].itertuples(index=False, name=None))


def test_test_images_elsewhere(tmp_path: Path) -> None:
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


def test_a_csv_names_test_images(tmp_path: Path) -> None:
    touch(tmp_path, "eval/x/7.png", "eval/8.png", "data/a/1.png")
    (tmp_path / "eval" / "list.csv").write_text("image,label\n8,a\n7.png,b\n", encoding="utf-8")
    expected = [("../eval/8.png", "a", "test"), ("../eval/x/7.png", "b", "test")]
    assert outside(tmp_path / "data", tmp_path / "eval" / "list.csv") == expected
    (tmp_path / "eval" / "list.csv").write_text("image,label\n8,a\n7.png,zebra\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"list\.csv: classes without training images: zebra"):
        outside(tmp_path / "data", tmp_path / "eval" / "list.csv")


def csv(root: Path, text: str, **settings: Any) -> list[tuple[str, ...]]:
    (root / "labels.csv").write_text(text, encoding="utf-8-sig")
    table = csv_samples(DataSettings(data_location=str(root), layout="csv", **settings))
    return list(table.itertuples(index=False, name=None))


def test_ids_and_labels_stay_text(tmp_path: Path) -> None:
    touch(tmp_path, "007.png", "images/NA.png", "images/1e5.jpg", "x.y.png")
    rows = csv(tmp_path, "image,label\n007,NA\nimages/NA.png,null\n1e5,1.0\nx.y,2\n")
    assert rows == [
        ("007.png", "NA", "", ""),
        ("images/1e5.jpg", "1.0", "", ""),
        ("images/NA.png", "null", "", ""),
        ("x.y.png", "2", "", ""),
    ]


def test_columns_named_by_flags_with_group_and_split(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png", "4.png")
    text = "who,file,kind,set\np,1,a,train\nq,2,b,Validation\nr,3,a,blur\ns,4,,test\n"
    rows = csv(tmp_path, text, image_column="file", label_column="kind", group_column="who", split_column="set")
    assert rows == [
        ("1.png", "a", "p", "train"),
        ("2.png", "b", "q", "val"),
        ("3.png", "a", "r", "blur"),
        ("4.png", "", "s", "test"),
    ]


def test_train_without_val_is_still_to_be_split(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    assert [row[3] for row in csv(tmp_path, "image,label,s\n1,a,train\n2,b,test\n", split_column="s")] == ["", "test"]


def test_a_path_that_stands_wins_over_a_search(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "other/1.png", "other/2.png", "more/2.png")
    assert csv(tmp_path, "image,label\n1.png,a\n")[0][0] == "1.png"
    with pytest.raises(DataError, match=r"labels.csv, row 2: '2' matches 2 images(.|\n)*more/2.png, .*other/2.png"):
        csv(tmp_path, "image,label\n2,a\n")


WRONG_TABLES: list[tuple[str, str]] = [
    ("image,label\n1,a\n2,b\n1,a\n", r"labels\.csv, rows 2 and 4: the same image twice(.|\n)*'1'"),
    ("image,label\n1,a\n1.png,b\n", r"rows 2 and 3: the same image twice(.|\n)*'1' and '1\.png' are both 1\.png"),
    ("image,label\n1,a\n2,\n", r"row 3: the label is empty"),
    ("image,label\n1,a\n,b\n", r"row 3: the image's id is empty"),
    ("image,label\n1,a\n8,b\n9,b\n", r"2 images are missing: 8 \(row 3\), 9 \(row 4\)"),
    ("file,label\n1,a\n", r"no column 'image'(.|\n)*--image-column(.|\n)*columns file, label"),
    ("image,kind\n1,a\n", r"no column 'label'(.|\n)*--label-column"),
    ("", r"labels\.csv: not a readable CSV table"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_TABLES)
def test_wrong_tables_are_named_with_their_rows(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        csv(touch(tmp_path, "1.png", "2.png"), text)


def test_where_the_table_of_labels_lies(tmp_path: Path) -> None:
    touch(tmp_path / "data", "1.png")
    settings = DataSettings(data_location=str(tmp_path / "data"), layout="csv")
    with pytest.raises(DataError, match=r"no table of labels(.|\n)*train\.csv and labels\.csv(.|\n)*--labels"):
        csv_samples(settings)
    for name in ("data/train.csv", "data/labels.csv", "mine.csv"):
        (tmp_path / name).write_text("image,label\n1,a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"two possible tables"):
        csv_samples(settings)
    for labels in ("train.csv", str(tmp_path / "mine.csv")):
        assert len(csv_samples(settings.model_copy(update={"labels": labels}))) == 1
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        csv_samples(settings.model_copy(update={"labels": "none.csv"}))
