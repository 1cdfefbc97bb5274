"""Submission tables in the template's form, and true labels aligned by id."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.data.submission import SubmissionTable, find_template, read_truth, table_from_template

SPACE = LabelSpace(("cat", "dog", "eel"))
IMAGES = ["test/1.png", "test/2.png", "test/03.png"]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]])


def template(folder: Path, text: str) -> Path:
    path = folder / "sample_submission.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def written(submission: SubmissionTable, space: LabelSpace = SPACE, size: int = 2) -> pd.DataFrame:
    """Return the table that a submission writes, in pages of `size` rows."""
    answers = submission.compact(PROBABILITIES, space)
    answers = answers if submission.order is None else answers[submission.order]
    blocks = [answers[start : start + size] for start in range(0, len(answers), size)]
    return pd.concat(list(submission.pages(blocks, space)), ignore_index=True)


def filled(folder: Path, text: str, images: list[str] = IMAGES) -> str:
    return written(table_from_template(template(folder, text), images)).to_csv(index=False)


@pytest.mark.parametrize("form", ["test/{}.png", "{}.png", "{}", "test/{}"])
def test_rows_have_the_order_of_the_template(tmp_path: Path, form: str) -> None:
    ids = [form.format(name) for name in ("03", "1", "2")]
    text = "id,label\n" + "".join(f"{name},cat\n" for name in ids)
    assert filled(tmp_path, text) == f"id,label\n{ids[0]},dog\n{ids[1]},cat\n{ids[2]},eel\n"


def test_a_template_of_whole_numbers_gets_indices(tmp_path: Path) -> None:
    assert filled(tmp_path, "ImageID,ans\n1.png,0\n2.png,0\n03.png,0\n") == "ImageID,ans\n1.png,0\n2.png,2\n03.png,1\n"
    assert filled(tmp_path, "id,ans\n1,-1\n2,-1\n03,-1\n").splitlines()[1:] == ["1,0", "2,2", "03,1"]


def test_a_template_of_empty_or_class_name_answers_gets_names(tmp_path: Path) -> None:
    assert filled(tmp_path, "id,ans\n1,\n2,\n03,\n").splitlines()[1:] == ["1,cat", "2,eel", "03,dog"]
    numbers = LabelSpace(("7", "8", "9"))
    table = written(table_from_template(template(tmp_path, "id,ans\n1,7\n2,7\n03,7\n"), IMAGES), numbers)
    assert table["ans"].tolist() == ["7", "9", "8"]


def test_other_columns_of_a_template_do_not_change(tmp_path: Path) -> None:
    text = "image,target,note\n1.png,cat,keep me\n2.png,cat,\n03.png,cat,007\n"
    assert filled(tmp_path, text) == "image,target,note\n1.png,cat,keep me\n2.png,eel,\n03.png,dog,007\n"


def test_a_template_with_a_column_per_class_gets_probabilities(tmp_path: Path) -> None:
    table = written(table_from_template(template(tmp_path, "id,eel,cat,dog\n2,0,0,0\n1,0,0,0\n"), IMAGES))
    assert list(table.columns) == ["id", "eel", "cat", "dog"]
    assert table.iloc[0, 1:].tolist() == [0.8, 0.1, 0.1]


def test_images_that_the_template_does_not_list_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert filled(tmp_path, "id,ans\n2,cat\n") == "id,ans\n2,eel\n"
    assert "does not list 2 of the 3 images" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,ans\n1,a\n2,a\n1,a\n", r"sample_submission\.csv, rows 2 and 4: the same image twice(.|\n)*'1'"),
        ("id,ans\n1,a\n1.png,a\n", r"rows 2 and 3: both are test/1\.png"),
        ("id,ans\n1,a\n3,a\n", r"ids without an image: '3' \(row 3\)"),
        ("id,ans\n1,a\n,a\n", r"row 3: the image's id is empty"),
        ("id\n1\n", r"one column only"),
    ],
)
def test_invalid_ids_are_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        filled(tmp_path, text)


def test_an_id_that_matches_two_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: '1' matches 2 images(.|\n)*test/1\.png, test/1\.jpg"):
        filled(tmp_path, "id,ans\n1,a\n", ["test/1.png", "test/1.jpg", "test/2.png"])


def test_our_own_columns() -> None:
    table = written(SubmissionTable(IMAGES))
    assert table.to_csv(index=False) == (
        "image,target,confidence\ntest/1.png,cat,0.7\ntest/2.png,eel,0.8\ntest/03.png,dog,0.5\n"
    )
    wide = written(SubmissionTable(IMAGES, all_probabilities=True))
    assert list(wide.columns) == ["image", "target", "confidence", "cat", "dog", "eel"]
    assert np.array_equal(wide[["cat", "dog", "eel"]].to_numpy(), PROBABILITIES)


def test_a_class_may_have_the_name_of_a_column() -> None:
    space = LabelSpace(("image", "target", "confidence"))
    table = next(
        SubmissionTable(IMAGES, all_probabilities=True).pages([np.hstack([PROBABILITIES[:, :2], PROBABILITIES])], space)
    )
    assert list(table.columns) == ["image", "target", "confidence"] * 2


def test_the_template_of_a_wrapped_data_set_with_other_names(tmp_path: Path) -> None:
    for folder in ("photos/Training/a", "photos/Training/b", "photos/test_images"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "photos" / "test_images" / "info.csv").touch()
    assert find_template([tmp_path], None) == tmp_path / "photos" / "test_images" / "info.csv"
    (tmp_path / "photos" / "info.csv").touch()
    assert find_template([tmp_path], None) == tmp_path / "photos" / "info.csv"
    assert find_template([tmp_path / "gone"], None) is None


def test_find_template(tmp_path: Path) -> None:
    data, test = tmp_path / "data", tmp_path / "eval" / "images"
    for folder in (data / "test", test):
        folder.mkdir(parents=True)
    assert find_template([data], test) is None and find_template([], None) is None
    (data / "info.csv").touch()
    assert find_template([str(data)], None) == data / "info.csv"
    (data / "test" / "sample_submission.csv").touch()
    assert find_template([data], None) == data / "test" / "sample_submission.csv"
    (tmp_path / "eval" / "sample_submission.csv").touch()
    assert find_template([data], test) == tmp_path / "eval" / "sample_submission.csv"
    assert find_template([], tmp_path / "none" / "images") is None


def test_truth_by_name_or_index_in_the_images_order(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    for text in ("id,label\n2,eel\n1.png,cat\ntest/03,dog\nother,cat\n", "image,x,target\n2,,2\n1,,0\n03,,1\n"):
        path.write_text(text, encoding="utf-8")
        assert read_truth(path, IMAGES, SPACE) == ["cat", "eel", "dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n1,cat\n2,dog\n", r"truth\.csv: no row for 1 images: test/03\.png"),
        ("id,label\n1,cat\n1,dog\n", r"line 3: the id .1. appears twice"),
        ("id,label\n1,cat\n2,cow\n03,dog\n", r"truth\.csv: 'cow' is neither a class name nor an index"),
        ("id\n1\n", r"no labels"),
    ],
)
def test_invalid_true_labels_are_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "truth.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_truth(tmp_path / "truth.csv", IMAGES, SPACE)


def test_a_true_label_that_matches_two_images_is_an_error(tmp_path: Path) -> None:
    path = template(tmp_path, "id,label\n1,cat\n")
    with pytest.raises(DataError, match=r"row 2: '1' matches 2 images(?s:.*)a/1\.png, b/1\.png"):
        read_truth(path, ["a/1.png", "b/1.png"], SPACE)


def test_the_column_of_true_labels_is_known_by_its_name(tmp_path: Path) -> None:
    path = template(tmp_path, "id,class,fold\n1,dog,0\n2,cat,1\n03,eel,2\n")
    assert read_truth(path, IMAGES, SPACE) == ["dog", "cat", "eel"]


def test_probabilities_of_a_template_with_classes_in_another_case(tmp_path: Path) -> None:
    text = filled(tmp_path, "id,Dog,CAT,eel,UNK\n1,0,0,0,0\n2,0,0,0,0\n03,0,0,0,0\n")
    assert text.splitlines()[:2] == ["id,Dog,CAT,eel,UNK", "1,0.2,0.7,0.1,0"]


def test_a_template_of_halves_gets_the_probability_of_class_1(tmp_path: Path) -> None:
    submission = table_from_template(template(tmp_path, "id,sick\n1,0.5\n2,0.5\n"), IMAGES[:2])
    space = LabelSpace(("well", "ill"))
    answers = submission.compact(np.array([[0.7, 0.3], [0.1, 0.9]]), space)
    assert pd.concat(list(submission.pages([answers], space)))["sick"].tolist() == [0.3, 0.9]
