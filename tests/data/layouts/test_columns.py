"""Columns of tables of labels: which are read, and what their cells may hold."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.data.layouts.columns import clean_labels, find_id_column, find_labels, find_splits, note_unused_groups

PATH = Path("t.csv")


def table(text: str) -> pd.DataFrame:
    """Return a table of words: `id,label 1,a 2,b`."""
    header, *rows = (line.split(",") for line in text.split())
    return pd.DataFrame(rows, columns=header, dtype=str)


def is_image(name: str) -> bool:
    return name.startswith("im")


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("id,image,label 1,im1,a", None, "image"),
        ("Image_ID,label im1,a", None, "Image_ID"),
        ("id,filename,label 1,im1,a", None, "filename"),
        ("number,picture,label 1,im1,a", None, "picture"),
        ("number,picture,image 1,im1,a", "number", "number"),
    ],
)
def test_the_ids_are_known_by_name_or_by_being_images(text: str, name: str | None, expected: str) -> None:
    assert find_id_column(table(text), PATH, name, is_image) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_column 1 2", r"no column 'image'(?s:.*)set --image-column a_column"),
        ("im1,a,x im2,b,x", r"t\.csv: no header(?s:.*)im1, a, x(?s:.*)add such a line"),
        ("a,b 1,2", r"t\.csv: no column 'image', and no other column holds images(?s:.*)--image-column"),
        ("id,file im1,im2", r"several columns hold images(?s:.*)found: +columns id, file(?s:.*)set --image-column id"),
    ],
)
def test_unclear_ids_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_id_column(table(text), PATH, None, is_image)


@pytest.mark.parametrize(
    ("text", "expected", "says"),
    [
        ("id,label,prediction 1,a,b 2,b,b", "a b", ""),
        ("id,class,fold 1,a,0 2,b,1", "a b", "the classes are those of column 'class'"),
        ("id,target,label 1,0,a 2,1,b 3,0,a", "a b a", "column 'label'"),
        ("id,class_name,label 1,a,0 2,b,1 3,a,0", "a b a", "column 'class_name'"),
        ("id,breed 1,a 2,b 3,a 4,b", "a b a b", "column 'breed'"),
        ("id,A,B,C 1,1,0,0 2,0,0,1.0", "A C", "the classes are the columns A, B, C, with a 1 in one of them"),
        ("id,A,B,age 1,1.0,0.0,30 2,0,1,40", "A B", "the classes are the columns A, B"),
        ("id,cactus 1,1 2,0 3,1 4,0", "1 0 1 0", "column 'cactus'"),
        ("id,label,A,B 1,x,1,1 2,y,0,0", "x y", ""),
    ],
)
def test_the_classes_are_known_by_name_or_by_their_values(
    text: str, expected: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert find_labels(table(text), PATH, None, ("id",), only_tests=False) == expected.split()
    assert says in caplog.text
    assert bool(says) == bool(caplog.records)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,target,label 1,0,a 2,1,b 3,1,a",
            r"several columns may hold the class(?s:.*)label, or --l.*target",
        ),
        ("id,breed,age 1,a,1 2,b,2 3,a,1 4,b,2", r"several columns(?s:.*)--label-column breed, or --label-column age"),
        ("id,text 1,x 2,y", r"no column 'label'(?s:.*)columns id, text(?s:.*)set --label-column text"),
        ("id,A,B 1,1,0 2,1,1", r"t\.csv, row 3: several classes among(?s:.*)1 in A, B"),
        ("id,A,B 1,1,0 2,0,0", r"t\.csv, row 3: no class among(?s:.*)only 0"),
        ("id,A,B 1,0.3,0.7 2,0.6,0.4 3,0.3,0.7 4,0.6,0.4", r"several columns may hold the class"),
    ],
)
def test_unclear_classes_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_labels(table(text), PATH, None, ("id",), only_tests=False)


def test_tables_of_test_images_have_classes_only_under_usual_names() -> None:
    assert find_labels(table("id,width 1,3 2,3 3,4 4,4"), PATH, None, ("id",), only_tests=True) is None
    assert find_labels(table("id,class 1,a"), PATH, None, ("id",), only_tests=True) == ["a"]
    assert find_labels(table("id,class 1,a"), PATH, "label", ("id",), only_tests=True) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,split 1,Training 2,valid 3,testing", ["train", "val", "test"]),
        ("id,Usage 1,train 2,test", ["", "test"]),
        ("id,split 1,train 2,train", None),
        ("id,split 1,train 2,other", None),
        ("id,kind 1,train 2,test", None),
    ],
)
def test_a_column_of_sets_is_read(text: str, expected: list[str] | None) -> None:
    assert find_splits(table(text), PATH, None) == expected


def test_a_column_of_persons_that_is_not_used_is_named(caplog: pytest.LogCaptureFixture) -> None:
    note_unused_groups(table("id,patient_id 1,p 2,p"), PATH, ("id",))
    assert "--group-column patient_id keeps its images in one set" in caplog.text
    caplog.clear()
    note_unused_groups(table("id,patient_id 1,p 2,q"), PATH, ("id",))
    note_unused_groups(table("id,person 1,p 2,p"), PATH, ("id", "person"))
    assert not caplog.records


@pytest.mark.parametrize(
    "labels",
    [
        ["Pepper, bell", "Tomato", "N/A"],
        ["Pepper, bell", "Pepper, hot"],
        ["Tomato, red", "Tomato, green", "Pepper, red", "Pepper, green"],
        ["polar bear", "brown bear", "sea lion", "lion"],
        ["a_b", "c_d", "b"],
        ["cat", "dog", ""],
    ],
)
def test_separators_within_names_of_classes_are_kept(labels: list[str]) -> None:
    assert clean_labels(labels, PATH, ()) == labels


@pytest.mark.parametrize(
    ("labels", "several"),
    [
        (["scab", "rust", "scab rust"], "scab rust"),
        (["0", "1", "0|1"], r"0\|1"),
        (["cat,dog", "cat", "dog"], "cat,dog"),
        (["cat|dog", "dog|eel", "eel|cat"], r"cat\|dog"),
        (["['cat', 'dog']", "['dog']", "['cat']"], r"\['cat', 'dog'\]"),
        (["a;b", "b;c", "a;b;c"], "a;b"),
    ],
)
def test_several_classes_in_a_cell_are_refused_unless_declared(labels: list[str], several: str) -> None:
    with pytest.raises(DataError, match=rf"row \d: several classes in one cell(?s:.*){several}(?s:.*)--class-order"):
        clean_labels(labels, PATH, ())
    assert clean_labels(labels, PATH, labels) == labels


def test_doubtful_classes_are_named(caplog: pytest.LogCaptureFixture) -> None:
    clean_labels(["cat", "nan", "dog", "nan"], PATH, ())
    assert "nan (2 rows) is a class; if it means that the class is unknown, remove the rows" in caplog.text
    caplog.clear()
    clean_labels(["0.5", "1.25", "3"], PATH, ())
    assert "3 numbers are classes, each by itself (0.5, 1.25, 3); a quantity cannot be learned" in caplog.text
    caplog.clear()
    clean_labels([str(number) for number in range(10)], PATH, ())
    assert not caplog.records


def test_whole_numbers_written_with_decimals_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert clean_labels(["0.0", "10.0", ""], PATH, ()) == ["0", "10", ""]
    assert "the classes are whole numbers: 0.0 is the class 0" in caplog.text
    assert clean_labels(["0,0", "1,0"], PATH, ()) == ["0", "1"]
    assert clean_labels(["0,0", "1,0"], PATH, ()) == ["0", "1"]
    assert clean_labels(["0.0", "1.5"], PATH, ()) == ["0.0", "1.5"]
    assert clean_labels(["0.0", "1.0"], PATH, ("0.0", "1.0")) == ["0.0", "1.0"]
