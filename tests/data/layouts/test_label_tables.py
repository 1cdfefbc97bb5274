"""Tables of labels that are found beside the images."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.data.layouts.label_tables import find_label_table
from soups.data.layouts.tables import csv_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import touch


def find(root: Path) -> dict[str, object]:
    return find_label_table(DataSettings(data_location=str(root)))


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_table_beside_the_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "images/1.png", "images/2.png")
    assert find(tmp_path) == {}
    write(tmp_path, "train.csv", "image,label", "1,a", "2,b")
    with caplog.at_level(logging.INFO):
        assert find(tmp_path) == {"layout": "csv", "labels": "train.csv", "test_location": None}
    assert f"layout csv: the classes are read from {tmp_path / 'train.csv'}" in caplog.text
    write(tmp_path, "Train-Labels.csv", "image,label", "1,b", "2,b")
    with pytest.raises(DataError, match=r"several tables(?s:.*)--labels Train-Labels\.csv, or --labels train\.csv"):
        find(tmp_path)


@pytest.mark.parametrize("wrapper", ["", "photos"])
def test_test_images_beside_it(tmp_path: Path, wrapper: str) -> None:
    root = touch(tmp_path / wrapper, "train/1.png", "train/2.png", "test/3.png", "test/4.png")
    write(root, "train.csv", "id,label", "1,a", "2,b")
    name = f"{wrapper}/train.csv" if wrapper else "train.csv"
    assert find(tmp_path) == {"layout": "csv", "labels": name, "test_location": str(root / "test")}
    write(root, "test.csv", "id", "3", "4")
    assert find(tmp_path)["test_location"] == str(root / "test.csv")


def test_a_test_table_that_does_not_fit_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "train/1.png", "train/2.png")
    write(tmp_path, "train.csv", "id,label", "1,a", "2,b")
    write(tmp_path, "test.csv", "id", "9")
    assert find(tmp_path)["test_location"] is None
    assert "test.csv: not read as a table of test images" in caplog.text


def test_tables_and_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    write(tmp_path, "train.csv", "image,label", "1,a", "2,b")
    with caplog.at_level(logging.INFO):
        assert find(tmp_path) == {}
        assert "train.csv: has the classes of the folders, which are read" in caplog.text
        write(tmp_path, "train.csv", "image,x,width", "1,10,20", "2,10,30")
        assert find(tmp_path) == {}
        assert "not read as a table of labels, because the folders are: no column 'label'" in caplog.text
    write(tmp_path, "train.csv", "image,label", "1,a", "2,c")
    with pytest.raises(
        DataError, match=r"name different classes(?s:.*)b/2\.png is b by its folder, c in(?s:.*)--labels"
    ):
        find(tmp_path)


def test_a_table_that_cannot_be_read_is_used_if_the_folders_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png")
    write(tmp_path, "train.csv", "image,label", "1,a", "9,b")
    assert find(tmp_path) == {"layout": "csv", "labels": "train.csv"}


def test_a_table_of_validation_images_is_named_with_the_command_that_joins_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(touch(tmp_path, "1.png", "2.png", "3.png", "4.png"))
    write(tmp_path, "train.csv", "image,label", "1,a", "2,b")
    write(tmp_path, "valid.csv", "image,label", "3,a", "4,b")
    find(tmp_path)
    (text,) = (record.getMessage() for record in caplog.records if "valid.csv: is not read" in record.getMessage())
    command = text.partition("validate on it: ")[2].partition(", and --labels")[0]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    samples = csv_samples(DataSettings(data_location=str(tmp_path), labels="all.csv"))
    assert samples["split"].tolist() == ["train", "train", "val", "val"]
