"""What templates ask for."""

from io import StringIO

import pandas as pd
import pytest

from soups.core.labels import Factor, LabelSpace
from soups.data.template import read_form

THREE = LabelSpace(("cat", "dog", "eel"))
TWO = LabelSpace(("good", "bad"))
NUMBERS = LabelSpace(("1", "2", "10"))


@pytest.mark.parametrize(
    ("space", "text", "kind", "columns", "words"),
    [
        (THREE, "id,label\n1,cat\n2,cat", "names", {"label": 0}, "answers are class names in column 'label'"),
        (THREE, "id,label\n1,\n2,", "names", {"label": 0}, "class names"),
        (THREE, "id,label\n1,0\n2,0", "indices", {"label": 0}, "indices in column 'label': 0 = cat, 1 = dog, 2 = eel"),
        (THREE, "id,label,Usage\n1,0,Public\n2,0,Private", "indices", {"label": 0}, "column 'label'"),
        (THREE, "id,answer,Usage\n1,cat,Public\n2,cat,Private", "names", {"answer": 0}, "column 'answer'"),
        (THREE, "id,Target,note\n1,cat,a\n2,cat,b", "names", {"Target": 0}, "column 'Target'"),
        (NUMBERS, "id,label\n1,0\n2,0", "names", {"label": 0}, "class names"),
        (TWO, "id,has_cactus\n1,0.5\n2,0.5", "probabilities", {"has_cactus": 1}, "the probability of class 1, bad"),
        (TWO, "id,label\n1,0\n2,0", "indices", {"label": 0}, "0 = good, 1 = bad"),
        (TWO, "id,label\n1,0\n2,1", "indices", {"label": 0}, "0 = good, 1 = bad"),
        (THREE, "id,label\n1,0.5\n2,0.5", "names", {"label": 0}, "class names"),
        (LabelSpace(("Cat", "cat")), "id,cat,Cat\n1,0,0", "probabilities", {"cat": 1, "Cat": 0}, "a column for each"),
        (TWO, "id,target,confidence,good,bad\n1,bad,0,0,0", "names", {"target": 0}, "class names in column 'target'"),
        (THREE, "id,Dog,CAT,eel\n1,0,0,0", "probabilities", {"Dog": 1, "CAT": 0, "eel": 2}, "a column for each class"),
    ],
)
def test_forms(space: LabelSpace, text: str, kind: str, columns: dict[str, int], words: str) -> None:
    form = read_form(pd.read_csv(StringIO(text), dtype=str, keep_default_na=False), space)
    assert (form.kind, form.columns) == (kind, columns) and words in form.text


def test_a_column_of_numbers_that_is_no_class_takes_zero() -> None:
    text = "id,cat,dog,eel,UNK,Usage\n1,0,0,0,0,Public"
    form = read_form(pd.read_csv(StringIO(text), dtype=str, keep_default_na=False), THREE)
    assert form.no_classes == ("UNK",) and "UNK is no class of the run and takes 0" in form.text


def test_an_empty_answer_column_asks_for_indices_if_labels_are_made_of_factors() -> None:
    space = LabelSpace.product((Factor("mask", ("no", "yes")), Factor("age", ("old", "young"))))
    form = read_form(pd.DataFrame({"id": ["1"], "ans": [""]}), space)
    assert form.kind == "indices"
