"""The layout `metadata`: splits, labels and errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError
from soups.data.layouts.layouts import separate_test_samples
from soups.data.layouts.locate import resolve_locations
from soups.data.layouts.metadata import metadata_samples
from soups.data.samples import make_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import touch


def csv(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def jsonl(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def rows(root: Path, **settings: Any) -> list[tuple[str, ...]]:
    table = metadata_samples(DataSettings(data_location=str(root), layout="metadata", **settings))
    return list(table[["image", "label", "split"]].itertuples(index=False, name=None))


@pytest.fixture
def three_sets(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"{split}/{number}.png" for split in ("train", "validation", "test") for number in range(4)))
    for split in ("train", "validation"):
        records = ({"file_name": f"{number}.png", "label": number % 2, "text": None} for number in range(4))
        jsonl(tmp_path / split / "metadata.jsonl", *records)
    csv(tmp_path / "test" / "metadata.csv", "file_name,text", *(f"{number}.png,x" for number in range(4)))
    return tmp_path


def test_a_file_for_each_set_of_either_kind(three_sets: Path) -> None:
    assert resolve_locations(DataSettings(data_location=str(three_sets))).layout == "metadata"
    found = rows(three_sets)
    assert [row for row in found if row[2] == "train"] == [(f"train/{n}.png", str(n % 2), "train") for n in range(4)]
    assert [row for row in found if row[2] == "val"] == [(f"validation/{n}.png", str(n % 2), "val") for n in range(4)]
    assert [row for row in found if row[2] == "test"] == [(f"test/{n}.png", "", "test") for n in range(4)]
    assert set(make_samples(DataSettings(data_location=str(three_sets)))["split"]) == {"train", "val", "test"}


def test_one_metadata_file_at_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "./train/2.png", "test/3.png")
    lines = ("file_name,kind,who", "train/1.png,real,p", "./train/2.png,fake,q", "test/3.png,,q")
    csv(tmp_path / "metadata.csv", *lines)
    settings = {"label_column": "kind"}
    assert rows(tmp_path, **settings) == [
        ("test/3.png", "", "test"),
        ("train/1.png", "real", ""),
        ("train/2.png", "fake", ""),
    ]
    grouped = make_samples(DataSettings(data_location=str(tmp_path), group_column="who", val_ratio=None, **settings))
    assert list(grouped["group"]) == ["q", "p", "q"]
    assert len(rows(tmp_path, test_location="elsewhere", **settings)) == 2


def test_a_split_column(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    csv(tmp_path / "metadata.csv", "file_name,label,set", "1.png,a,train", "2.png,b,train", "3.png,a,valid")
    assert [row[2] for row in rows(tmp_path, split_column="set")] == ["train", "train", "val"]


def test_a_metadata_csv_without_file_name_is_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    csv(tmp_path / "metadata.csv", "camera,year", "x,2001")
    assert resolve_locations(DataSettings(data_location=str(tmp_path))).layout == "folder"
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00caf\xe9")
    assert resolve_locations(DataSettings(data_location=str(tmp_path))).layout == "folder"


def test_a_labelled_test_set_at_test_location(tmp_path: Path) -> None:
    touch(tmp_path, "eval/x.png", "data/a/1.png")
    csv(tmp_path / "eval" / "metadata.csv", "file_name,label", "x.png,a")
    settings = DataSettings(data_location=str(tmp_path / "data"), test_location=str(tmp_path / "eval"))
    found = separate_test_samples(settings, {"a", "b"})
    assert list(found.iloc[0][["image", "label", "split"]]) == ["../eval/x.png", "a", "test"]


WRONG: list[tuple[list[str], str]] = [
    (
        ["file_name,text", "1.png,x"],
        r"metadata\.csv: no column 'label'(.|\n)*columns file_name, text(.|\n)*--label-col",
    ),
    (["file,label", "1.png,a"], r"no column 'file_name'(.|\n)*columns file, label"),
    (["file_name,label", "1.png,a", "9.png,b", "8.png,b"], r"2 images are missing: 9\.png \(row 3\), 8\.png \(row 4\)"),
    (["file_name,label", "1.png,a", "2.png,"], r"row 3: the label is empty"),
    (["file_name,label", "1.png,a", "1.png,b"], r"rows 2 and 3: the same image twice"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG)
def test_invalid_tables_are_errors(tmp_path: Path, lines: list[str], message: str) -> None:
    touch(tmp_path, "1.png", "2.png")
    csv(tmp_path / "metadata.csv", *lines)
    with pytest.raises(DataError, match=message):
        rows(tmp_path)


def test_invalid_metadata_files_are_errors(three_sets: Path) -> None:
    csv(three_sets / "train" / "metadata.csv", "file_name,label", "1.png,a")
    with pytest.raises(DataError, match=r"train: both metadata\.csv and metadata\.jsonl(.|\n)*remove one"):
        rows(three_sets)
    (three_sets / "train" / "metadata.csv").unlink()
    (three_sets / "test" / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"test: no metadata file in it(.|\n)*--test-location"):
        rows(three_sets)
    assert len(rows(three_sets, test_location=str(three_sets / "test"))) == 8
    (three_sets / "train" / "metadata.jsonl").write_text('{"file_name": "1.png"\n{}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"metadata\.jsonl, line 1: not JSON"):
        resolve_locations(DataSettings(data_location=str(three_sets)))
    with pytest.raises(DataError, match=r"no metadata file(.|\n)*file_name"):
        rows(touch(three_sets / "empty", "train/1.png"))
