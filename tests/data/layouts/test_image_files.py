"""Listing of folders: image files, ignored files, links and names."""

from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.data.layouts.folders import folder_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import image_rows, touch


def folder_rows(root: Path) -> list[tuple[str, ...]]:
    return image_rows(folder_samples(DataSettings(data_location=str(root))))


def test_system_files_are_ignored_and_other_files_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(
        tmp_path, "a/1.png", "b/2.png", "a/.ipynb_checkpoints/1.png", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/a/1.png"
    )
    touch(tmp_path, "a/notes.txt", "b/x/list.csv", "b/._2.png", ".git/a.png", "stray.png")
    with caplog.at_level("INFO"):
        assert [row[0] for row in folder_rows(tmp_path)] == ["a/1.png", "b/2.png"]
    assert "skipped 2 files without the extension of an image" in caplog.text
    assert "skipped 1 images outside class folders" in caplog.text


def test_links_are_followed_without_cycles(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.png", "data/b/2.png")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "b" / "up").symlink_to(tmp_path / "data" / "b")
    assert folder_rows(tmp_path / "data") == [("a/1.png", "a", ""), ("b/2.png", "b", "")]


def test_a_file_name_that_a_table_cannot_hold_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png", "b/Icon\r")
    assert len(folder_rows(tmp_path)) == 2
    for name in ("\udcff.png", "a\rb.png"):
        try:
            (tmp_path / "b" / name).touch()
        except (OSError, UnicodeEncodeError):
            pytest.skip("this file system takes no such names")
        with pytest.raises(DataError, match=r"b: the name .* cannot be written into a table(.|\n)*UTF-8"):
            folder_rows(tmp_path)
        (tmp_path / "b" / name).unlink()


def test_a_broken_link_with_an_image_name_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "dead.png").symlink_to(tmp_path / "nowhere")
    assert ("a/dead.png", "a", "") in folder_rows(tmp_path)
