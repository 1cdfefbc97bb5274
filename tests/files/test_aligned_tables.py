"""Several tables of the same images are read in one order, and agree on what a class is."""

from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.files.aligned_tables import align, read_aligned, read_all
from soups.files.prediction_tables import read_predictions


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_are_those_of_the_first_table(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", "image,label,group,confidence\nx,cat,g,0.1\ny,dog,h,0.2\n")
    two = write(tmp_path / "b.csv", "image,label,group,confidence\ny,eel,i,0.3\nx,cat,j,0.4\n")
    first, second = read_all([one, two])
    assert (second.ids, second.labels, second.groups) == (["x", "y"], ["cat", "eel"], ["j", "i"])
    assert second.confidences is not None and second.confidences.tolist() == [0.4, 0.3]
    assert align(second, first) is second


def test_probabilities_have_the_order_of_the_rows_and_of_the_classes_asked_for(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", "image,cat,dog\nx,0.1,0.9\ny,0.8,0.2\n")
    two = write(tmp_path / "b.csv", "image,dog,cat\ny,0.3,0.7\nx,0.6,0.4\n")
    _, second = read_all([one, two])
    assert second.labels == ["dog", "cat"]
    assert np.allclose(second.probabilities(["cat", "dog"]), [[0.4, 0.6], [0.7, 0.3]])
    with pytest.raises(DataError, match=r"b\.csv: has probabilities of other classes(?s:.*)expected: cat, eel"):
        second.probabilities(["cat", "eel"])


@pytest.mark.parametrize("space", [None, LabelSpace(("10", "2", "cat"))])
def test_the_fast_reading_is_the_careful_one(tmp_path: Path, space: LabelSpace | None) -> None:
    rng = np.random.default_rng(0)
    ids = [f"im_{number}" for number in range(30)]
    paths = []
    for number in range(2):
        rows = "".join(f"{ids[row]},{rng.choice(['10', '2', 'cat'])} \n" for row in rng.permutation(30))
        paths.append(write(tmp_path / f"{number}.csv", f"image,label\n{rows}"))
    first = read_predictions(paths[0], space)
    fast, slow = read_aligned(paths[1], first, space), align(read_predictions(paths[1], space), first)
    assert fast.frame is None and slow.frame is not None and fast.labels == slow.labels


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("cat", "Cat", r"b\.csv: the class 'Cat' is 'cat' in .*a\.csv, which differs only by case or zeros"),
        ("7", "07", r"b\.csv: the class '07' is '7' in .*a\.csv"),
        ("cat", "1", r"b\.csv: has classes as numbers, .*a\.csv as names"),
    ],
)
def test_one_class_in_two_spellings_is_refused(tmp_path: Path, first: str, second: str, words: str) -> None:
    paths = [write(tmp_path / f"{name}.csv", f"id,label\nx,{text}\n") for name, text in (("a", first), ("b", second))]
    with pytest.raises(DataError, match=words):
        read_all(paths)


def test_whole_numbers_with_decimals_are_one_class(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.csv", "id,label\nx,1\ny,0\n"), write(tmp_path / "b.csv", "id,label\ny,0.0\nx,1.0\n")]
    assert [table.labels for table in read_all(paths)] == [["1", "0"], ["1", "0"]]
