"""Reading tables of predictions and of true labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.prediction_tables import find_label_column, read_predictions

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
    rows = one.rows_for(other)
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
        table.rows_for(other)


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


def test_the_column_of_classes_is_named_usual_or_the_only_one() -> None:
    table = pd.DataFrame(columns=["image", "mine", "label", "cat", "confidence"])
    assert find_label_column(table, Path("t.csv"), "mine", SPACE) == "mine"
    assert find_label_column(table, Path("t.csv"), None, SPACE) == "label"
    assert find_label_column(table.drop(columns="label"), Path("t.csv"), None, SPACE) == "mine"
    with pytest.raises(DataError, match="lacks the column 'yours'"):
        find_label_column(table, Path("t.csv"), "yours", SPACE)
