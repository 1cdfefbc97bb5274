"""The layout `csv`: columns, ids and the search for images."""

from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError
from soups.data.layouts.tables import csv_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import read_test_location, touch


def test_images_from_a_csv(tmp_path: Path) -> None:
    touch(tmp_path, "eval/x/7.png", "eval/8.png", "data/a/1.png")
    (tmp_path / "eval" / "list.csv").write_text("image,label\n8,a\n7.png,b\n", encoding="utf-8")
    expected = [("../eval/8.png", "a", "test"), ("../eval/x/7.png", "b", "test")]
    assert read_test_location(tmp_path / "data", tmp_path / "eval" / "list.csv") == expected
    (tmp_path / "eval" / "list.csv").write_text("image,label\n8,a\n7.png,zebra\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"list\.csv: classes without training images: zebra"):
        read_test_location(tmp_path / "data", tmp_path / "eval" / "list.csv")


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


def test_test_images_may_lack_a_group(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    text = "image,label,set,who\n1,a,train,p\n2,,test,\n"
    assert [row[2] for row in csv(tmp_path, text, split_column="set", group_column="who")] == ["p", ""]
    with pytest.raises(DataError, match=r"row 3: column 'who' is empty"):
        csv(tmp_path, text.replace("2,,test", "2,a,train"), split_column="set", group_column="who")


def test_train_without_val_is_undecided(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    assert [row[3] for row in csv(tmp_path, "image,label,s\n1,a,train\n2,b,test\n", split_column="s")] == ["", "test"]


def test_an_existing_path_takes_precedence_over_a_search(tmp_path: Path) -> None:
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
    ("thing,label\nx,a\ny,b\n", r"no column 'image'(.|\n)*--image-column(.|\n)*columns thing, label"),
    ("image,kind\n1,a\n", r"no column 'label'(.|\n)*set --label-column kind"),
    ("", r"labels\.csv: not a readable CSV table"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_TABLES)
def test_invalid_rows_of_tables_are_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        csv(touch(tmp_path, "1.png", "2.png"), text)


def test_the_location_of_the_labels_table(tmp_path: Path) -> None:
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


def test_an_image_with_two_classes_names_both(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    with pytest.raises(
        DataError, match=r"rows 2 and 4: the same image twice(?s:.*)with one class(?s:.*)'1' as a and b"
    ):
        csv(tmp_path, "image,label\n1,a\n2,b\n1,b\n")


def test_cells_separated_by_blanks_get_the_command(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match=r"if blanks separate the cells: tr -s ' ' ',' < \S+labels\.csv > labels\.csv"):
        csv(tmp_path, "image label\n1 a\n2 b\n")


def test_sets_that_the_table_does_not_list_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    csv(tmp_path, "image,label\n1,a\n2,b\n")
    assert "left out 1 images that labels.csv does not list: 1 in test; to predict them: --test-location" in caplog.text
