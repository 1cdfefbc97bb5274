"""Search for the images of ids: separators, forms of Unicode, lost zeros."""

import logging
import unicodedata
from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.data.layouts.image_search import ImageSearch, find_images
from tests.data.data_sets import touch


def found(root: Path, *ids: str) -> list[str]:
    return find_images(ids, Path("t.csv"), ImageSearch([root], root))


def test_ids_across_separators_and_forms_of_unicode(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.png")
    touch(tmp_path, f"a/{decomposed}", "a/b/2.png", "c\\3.png")
    assert found(tmp_path, "é.png", "a\\b\\2.png", "c/3") == [f"a/{decomposed}", "a/b/2.png", "c\\3.png"]
    assert found(tmp_path, "a\\é") == [f"a/{decomposed}"]


def test_lost_zeros_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "images/0007.png", "images/0010.png", "images/0000.png", "images/x1.png")
    with caplog.at_level(logging.INFO):
        assert found(tmp_path, "7", "10.0", "0") == ["images/0007.png", "images/0010.png", "images/0000.png"]
    assert "3 ids are matched but for leading zeros" in caplog.text
    assert "'7' is images/0007.png" in caplog.text


def test_another_case_and_another_ending_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/IMG_1.JPG", "a/2.png")
    with caplog.at_level(logging.INFO):
        assert found(tmp_path, "img_1.jpg", "A/2.jpg") == ["a/IMG_1.JPG", "a/2.png"]
    assert (
        "2 ids are matched but for leading zeros, decimals, case or file endings: 'img_1.jpg' is a/IMG_1.JPG"
        in caplog.text
    )


def test_numbers_are_images_only_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "007.png", "x.png")
    search = ImageSearch([tmp_path], tmp_path)
    names = ["007", "007.png", "X.jpg", "7", "7.0", "y", ""]
    assert [search.is_image(name) for name in names] == [True, True, True, False, False, False, False]


def test_an_id_as_it_is_goes_before_its_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.png", "01.png")
    assert found(tmp_path, "1", "01") == ["1.png", "01.png"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("files", "ids", "message"),
    [
        (("01.png", "001.png"), ("1",), r"1 images are missing: 1 \(row 2\)(?s:.*)1 may be any of .*001\.png"),
        (("1.png", "1.JPG"), ("1.bmp",), r"1 images are missing: 1\.bmp(?s:.*)any of .*1\.JPG"),
        (("1.png", "1.JPG"), ("1.bmp",), r"1 images are missing: 1\.bmp(?s:.*)any of .*1\.JPG"),
        (("a/1.png",), ("/elsewhere/a/1.png",), r"missing(?s:.*)remove /elsewhere/ from the ids"),
        (("a/1.png",), ("x" * 300, "a\0b"), r"2 images are missing(?s:.*)add the files or remove the rows"),
        (("a/1.png", "b/1.png"), ("1",), r"row 2: '1' matches 2 images"),
        (("01.png",), ("1", "01"), r"rows 2 and 3: the same image twice"),
    ],
)
def test_ids_that_match_no_single_image_are_refused(
    tmp_path: Path, files: tuple[str, ...], ids: tuple[str, ...], message: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        found(tmp_path, *ids)
