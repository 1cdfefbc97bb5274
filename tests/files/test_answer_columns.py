"""Columns of ids, answers and probabilities are known by name, values and agreement."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.answer_columns import find_class_columns, find_id_column, read_probabilities
from soups.files.prediction_tables import parse_predictions

PATH = Path("t.csv")
SPACE = LabelSpace(("cat", "dog", "Käse"))


def frame(text: str) -> pd.DataFrame:
    lines = [line.split(",") for line in text.split()]
    return pd.DataFrame(lines[1:], columns=lines[0])


@pytest.mark.parametrize(
    ("text", "like", "column"),
    [
        ("label,image cat,1 dog,2", (), "image"),
        ("ImageID,label 1,cat 2,dog", (), "ImageID"),
        ("id,image,label 1,a.png,cat 2,b.png,dog", (), "image"),
        ("id,name 1,cat 2,dog", ["1", "2"], "id"),
        ("sample,answer x1,cat x2,cat", (), "sample"),
        ("answer,sample cat,x1.png cat,x2.png", (), "sample"),
        ("answer,sample cat,x1 cat,x2", ["x2", "x1"], "sample"),
    ],
)
def test_ids_are_found_by_name_values_or_other_tables(text: str, like: list[str], column: str) -> None:
    assert find_id_column(frame(text), PATH, like) == column


@pytest.mark.parametrize(
    "text",
    ["label,answer cat,x1 dog,x2", "answer,sample cat,x1 cat,x2", "Unnamed:0,label 0,cat 1,dog", "cat,x 0.5,a 0.4,b"],
)
def test_unclear_ids_are_refused(text: str) -> None:
    table = frame(text).rename(columns={"Unnamed:0": "Unnamed: 0"})
    with pytest.raises(DataError, match=r"t\.csv: which column holds the image's id is not clear"):
        find_id_column(table, PATH)


@pytest.mark.parametrize(
    ("text", "space", "columns"),
    [
        ("id,CAT,dog,ka\u0308se,UNK x,1,0,0,0", SPACE, ["CAT", "dog", "ka\u0308se"]),
        ("id,2,0,1 x,1,0,0", SPACE, ["0", "1", "2"]),
        ("id,label,cat,dog x,cat,0.5,0.5", SPACE, []),
        ("id,a,b x,0.5,0.5", None, ["a", "b"]),
        ("id,label,a,b x,1,50,50", None, ["a", "b"]),
        ("id,label,width,height x,1,50,20", None, []),
        ("id,label,confidence,fold,a,b,Usage x,c,0.5,1,0.5,0.5,Public", None, ["a", "b"]),
        ("id,a,width x,0.5,640", None, []),
    ],
)
def test_columns_of_classes(text: str, space: LabelSpace | None, columns: list[str]) -> None:
    assert sorted(find_class_columns(frame(text), PATH, space)) == sorted(columns)


def test_a_missing_class_is_named() -> None:
    with pytest.raises(DataError, match=r"t\.csv: no column for 1 of the classes: Käse"):
        find_class_columns(frame("id,cat,dog x,0.5,0.5"), PATH, SPACE)


@pytest.mark.parametrize(
    ("cells", "values", "words"),
    [
        ("0.2,0.8 1,0", [[0.2, 0.8], [1, 0]], ""),
        ("20,80 100,0", [[0.2, 0.8], [1, 0]], "per cent"),
        ("0.33,0.66 0.5,0.5", [[1 / 3, 2 / 3], [0.5, 0.5]], "rounded rows sum to 0.990 to 1.000"),
    ],
)
def test_probabilities_sum_to_one(
    cells: str, values: list[list[float]], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert np.allclose(read_probabilities(frame(f"a,b {cells}"), ["a", "b"], PATH), values)
    assert words in caplog.text


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("0.2,0.8 0.4,0.9", r"line 3: no probabilities that sum to 1(?s:.*)0\.4, 0\.9, which sum to 1\.3; 1 such rows"),
        ("0.2,0.8 -3,4", "line 3(?s:.*)next:     logits: write their softmax"),
        ("0.2,0.8 nan,1", "line 3: the probability of 'a' is not a number"),
        ("0.2,0.8 inf,1", "line 3: the probability of 'a' is not a number"),
        ("0.21,0.78 0.4,0.4", "line 3: no probabilities that sum to 1"),
        ("20,80 0.2,0.8", "line 2: no probabilities that sum to 1"),
    ],
)
def test_rows_that_are_no_probabilities_are_named(cells: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_probabilities(frame(f"a,b {cells}"), ["a", "b"], PATH)


@pytest.mark.parametrize(
    ("text", "column", "labels"),
    [
        ("id,mine,cat,dog x,cat,0.4,0.6 y,dog,0.1,0.9", "mine", ["cat", "dog"]),
        ("id,mine,CAT,dog x,cat,0.4,0.6 y,dog,0.1,0.9", "mine", ["cat", "dog"]),
        ("id,ans,cat,dog x,1,0.4,0.6 y,0,0.7,0.3", "ans", ["dog", "cat"]),
        ("id,cat,dog x,0.4,0.6 y,0.7,0.3", None, ["dog", "cat"]),
        ("id,label,a,b x,cat,0.4,0.6 y,dog,0.7,0.3", "label", ["cat", "dog"]),
    ],
)
def test_answers_agree_with_the_columns_of_classes(text: str, column: str | None, labels: list[str]) -> None:
    table = parse_predictions(frame(text), PATH)
    assert (table.label_column, table.labels) == (column, labels)


def test_a_probability_of_the_second_class_is_within_its_range() -> None:
    assert parse_predictions(frame("id,target x,0.4 y,1"), PATH).labels == ["0", "1"]
    with pytest.raises(DataError, match=r"line 3: 'target' is neither a class nor a probability"):
        parse_predictions(frame("id,target x,0.4 y,1.5"), PATH)
