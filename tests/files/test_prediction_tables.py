"""Reading tables of predictions and of true labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.aligned_tables import find_rows
from soups.files.answer_columns import find_label_column
from soups.files.prediction_tables import read_predictions

SPACE = LabelSpace(("cat", "dog"))


def write(folder: Path, content: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(content)
    return path


def test_labels_groups_and_confidences_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label,group,confidence\na, cat ,one,0.5\nb,dog,two,1\n")
    table = read_predictions(path, SPACE)
    assert (table.ids, table.labels, table.groups) == (["a", "b"], ["cat", "dog"], ["one", "two"])
    assert table.confidences is not None and table.confidences.tolist() == [0.5, 1.0]


def test_indices_become_names_and_stay_text_without_a_space(tmp_path: Path) -> None:
    path = write(tmp_path, "image,ans\na,1\nb,0\n")
    assert read_predictions(path, SPACE).labels == ["dog", "cat"]
    table = read_predictions(path)
    assert (table.labels, table.groups, table.confidences) == (["1", "0"], None, None)


def test_rows_for_aligns_two_tables(tmp_path: Path) -> None:
    one = read_predictions(write(tmp_path, "image,label\na,x\nb,y\nc,z\n"))
    other = read_predictions(write(tmp_path, "image,label\nc,z\na,x\nb,y\n", "other.csv"))
    rows = find_rows(one, other)
    assert rows.dtype == np.int64 and rows.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ("a", r"table\.csv: lacks 1 image: b(?s:.*)the 2 images of .*other\.csv"),
        ("abcdefghi", r"has also 7 images: c, d, e, f, g, … and 2 more"),
    ],
)
def test_tables_of_other_images_are_rejected(tmp_path: Path, ids: str, words: str) -> None:
    table = read_predictions(write(tmp_path, "image,label\n" + "".join(f"{name},x\n" for name in ids)))
    other = read_predictions(write(tmp_path, "image,label\na,x\nb,y\n", "other.csv"))
    with pytest.raises(DataError, match=words):
        find_rows(table, other)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,label\n", "no labels"),
        ("image\na\n", "no labels(?s:.*)found:    1 rows with the columns image"),
        ("image,label\na,cat\na,dog\n", "line 3: the id 'a' appears twice(?s:.*)the other is line 2"),
        ("image,label\n ,cat\n", "line 2: the image's id is empty"),
        ("image,label\na,cat\nb,\n", "line 3: no class for the id 'b'"),
        ("image,label\na,cow\n", "table.csv: 'cow' is neither a class name nor an index"),
        ("image,label,confidence\na,cat,high\n", "line 2: the confidence is not a number(?s:.*)'high'"),
        ("image,one,two\na,cat,dog\n", "which column holds the class is not clear(?s:.*)the columns one, two"),
    ],
)
def test_invalid_tables_are_rejected(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_predictions(write(tmp_path, content), SPACE)


def test_the_column_of_classes_has_a_usual_name_or_is_the_only_one() -> None:
    table = pd.DataFrame(columns=["image", "mine", "label", "cat", "confidence", "group"])
    assert find_label_column(table, Path("t.csv"), SPACE) == "label"
    assert find_label_column(table.drop(columns="label"), Path("t.csv"), SPACE) == "mine"
    with pytest.raises(DataError, match=r"not clear(?s:.*)cat, confidence, group"):
        find_label_column(table.drop(columns=["label", "mine"]), Path("t.csv"), SPACE)


@pytest.mark.parametrize("other", ["a/im1.jpg a/im2.jpg", "a\\im1 a\\im2", "./a/im1.png ./a/im2.png"])
def test_ids_match_without_endings_and_across_path_separators(tmp_path: Path, other: str) -> None:
    one = read_predictions(write(tmp_path, "image,label\na/im2,x\na/im1,y\n"))
    ids = other.split()
    two = read_predictions(write(tmp_path, f"image,label\n{ids[0]},x\n{ids[1]},y\n", "other.csv"))
    assert find_rows(one, two).tolist() == [1, 0] and find_rows(two, one).tolist() == [1, 0]


def test_ids_match_in_both_forms_of_unicode(tmp_path: Path) -> None:
    one = read_predictions(write(tmp_path, "image,label\nBu\u0308ffel,x\n"))
    assert find_rows(one, read_predictions(write(tmp_path, "image,label\nB\u00fcffel,x\n", "other.csv"))).tolist() == [
        0
    ]


def test_ids_that_differ_only_in_their_ending_are_not_matched(tmp_path: Path) -> None:
    one = read_predictions(write(tmp_path, "image,label\na.jpg,x\na.png,y\n"))
    with pytest.raises(DataError, match=r"lacks 1 image: a(?s:.*)the 1 images"):
        find_rows(one, read_predictions(write(tmp_path, "image,label\na,x\n", "other.csv")))


def test_lost_leading_zeros_are_the_next_step(tmp_path: Path) -> None:
    one = read_predictions(write(tmp_path, "image,label\n7,x\n12,y\n"))
    with pytest.raises(DataError, match=r"one of the tables has lost the leading zeros of its ids, as spreadsheets do"):
        find_rows(one, read_predictions(write(tmp_path, "image,label\n007,x\n012,y\n", "other.csv")))


def test_folds_are_not_read_as_classes(tmp_path: Path) -> None:
    assert read_predictions(write(tmp_path, "id,class,fold\na,cat,0\nb,dog,1\n"), SPACE).labels == ["cat", "dog"]


@pytest.mark.parametrize("header", ["id,target,label", "image,label,prediction"])
def test_two_columns_of_different_classes_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"which column holds the class is not clear(?s:.*)keep only the column of"):
        read_predictions(write(tmp_path, f"{header}\na,cat,dog\n"), SPACE)
    assert read_predictions(write(tmp_path, f"{header}\na,cat,cat\n"), SPACE).labels == ["cat"]


def test_confidences_in_per_cent_are_divided(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    table = read_predictions(write(tmp_path, "image,label,confidence\na,cat,51\nb,dog,100\n"), SPACE)
    assert table.confidences is not None and table.confidences.tolist() == [0.51, 1.0]
    assert "the confidence is in per cent; divided by 100" in caplog.text
