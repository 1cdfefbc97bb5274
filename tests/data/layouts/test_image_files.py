"""Listing of folders: image files, ignored files, links and names."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from soups.core.errors import DataError
from soups.data.layouts import image_files
from soups.data.layouts.folders import folder_samples
from soups.data.layouts.image_files import existing_folder, lookup_keys, positions_by_key
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
    assert "left out 2 files that are no images that can be read: 1 .txt (notes.txt), 1 .csv (list.csv)" in caplog.text
    assert "left out 1 images outside class folders, such as stray.png" in caplog.text


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


def test_files_without_an_ending_are_images_by_their_first_bytes(tmp_path: Path) -> None:
    touch(tmp_path, "a/README", "b/1.png", "a/list.txt")
    for name, ending in (("0012", "png"), ("photo.jpg_large", "jpeg"), ("v1.0", "bmp"), ("c", "webp"), ("d", "tiff")):
        Image.new("RGB", (3, 3)).save(tmp_path / "a" / name, format=ending)
    Image.new("RGB", (3, 3)).save(tmp_path / "a" / "hidden.txt", format="png")
    os.mkfifo(tmp_path / "a" / "pipe")
    names = [Path(row[0]).name for row in folder_rows(tmp_path) if row[1] == "a"]
    assert sorted(names) == ["0012", "c", "d", "photo.jpg_large", "v1.0"]
    assert lookup_keys("a/v1.0") == ["a/v1.0", "v1.0"]


def test_formats_that_are_not_installed_are_left_out_with_a_next_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "a/1.heic", "a/2.HEIC", "b/3.svg", "b/4.jxl", "b/5.avif")
    monkeypatch.setattr(image_files, "_can_read", lambda ending: False)
    folder_rows(tmp_path)
    assert "left out 5 files that are no images that can be read: 2 .heic (1.heic), 1 .svg" in caplog.text
    for step in ("pip install pillow-heif", "pip install --upgrade pillow", "mogrify -format png *.jxl"):
        assert step in caplog.text
    monkeypatch.setattr(image_files, "_can_read", lambda ending: True)
    assert len(folder_rows(tmp_path)) == 5


def test_ids_are_compared_across_separators_and_forms_of_unicode() -> None:
    keys = positions_by_key([unicodedata.normalize("NFD", "é/a.png"), "b\\c.png"])
    assert keys["é/a"] == [0]
    assert keys["b/c.png"] == keys["c"] == [1]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("x.zip", r"unzip -q \S+/x\.zip -d \S+/x"),
        ("x.tar.gz", r"mkdir -p \S+/x && tar -xf \S+/x\.tar\.gz -C \S+/x$"),
        ("x.csv", r"--data-location \S+ --labels x\.csv"),
        ("x.png", r"pass the folder: --flag \S+$"),
    ],
)
def test_a_file_instead_of_a_folder_names_the_next_step(tmp_path: Path, name: str, step: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(DataError, match=rf"{name}: is not a folder(?s:.*){step}"):
        existing_folder(str(tmp_path / name), "--flag", "a folder")
