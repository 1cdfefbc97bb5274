"""Tables of any origin are read with the right cells, or refused."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.files.tables import read_table

ROWS = [("image", "label"), ("a/0.png", "cat"), ("a/1.png", "dog"), ("a/2.png", "cat")]


def _write(path: Path, separator: str = ",", encoding: str = "utf-8", rows: list[tuple[str, ...]] = ROWS) -> Path:
    path.write_bytes("".join(separator.join(row) + "\n" for row in rows).encode(encoding))
    return path


def _frame(rows: list[tuple[str, ...]] = ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows[1:], columns=list(rows[0]))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_separators_and_encodings_are_detected(separator: str, encoding: str, tmp_path: Path) -> None:
    rows = [*ROWS, ("a/3.png", "Käfer, groß" if separator != "," else "Käfer groß")]
    pd.testing.assert_frame_equal(read_table(_write(tmp_path / "t.csv", separator, encoding, rows)), _frame(rows))


def test_what_was_detected_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    read_table(_write(tmp_path / "t.csv"))
    assert caplog.text == ""
    read_table(_write(tmp_path / "t.csv", ";", "cp1252", [*ROWS, ("a/3.png", "Käfer")]))
    assert "cells are separated by semicolons" in caplog.text and "read as Windows-1252" in caplog.text


def test_a_separator_inside_of_some_cells_does_not_split_them(tmp_path: Path) -> None:
    rows = [("image", "label"), ("0", "scab;rust"), ("1", "scab")]
    pd.testing.assert_frame_equal(read_table(_write(tmp_path / "t.csv", rows=rows)), _frame(rows))


def test_blanks_in_the_header_are_removed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image , label\na, cat\n")
    assert list(read_table(tmp_path / "t.csv").columns) == ["image", "label"]


@pytest.mark.parametrize("numbers", [("0", "1", "2"), ("7", "3", "12")])
def test_the_index_of_pandas_is_left_out(
    numbers: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = [(number, *row) for number, row in zip(("", *numbers), ROWS, strict=True)]
    pd.testing.assert_frame_equal(read_table(_write(tmp_path / "t.csv", rows=rows)), _frame())
    assert "the first column has no name and counts the rows; it is left out" in caplog.text


@pytest.mark.parametrize("header", [("", "label", "confidence"), ("", "label"), ("id", "image", "label")])
def test_a_first_column_that_may_be_ids_stays(header: tuple[str, ...], tmp_path: Path) -> None:
    rows = [header, ("0", "a", "b")[: len(header)], ("1", "c", "d")[: len(header)]]
    assert read_table(_write(tmp_path / "t.csv", rows=rows).absolute()).iloc[:, 0].tolist() == ["0", "1"]


@pytest.mark.parametrize("rows", [ROWS[1:], [("im0", "cat"), ("im1", "dog"), ("im2", "cat")]])
def test_the_first_image_of_a_table_without_a_header_is_a_row(
    rows: list[tuple[str, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expected = pd.DataFrame(rows, columns=["image", "label"])
    pd.testing.assert_frame_equal(read_table(_write(tmp_path / "t.csv", rows=rows)), expected)
    assert "no header; its columns are read as image and label" in caplog.text


def test_a_wide_table_without_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: no header(?s:.*)such as image,label(?s:.*)a\.png, cat, 0\.5"):
        read_table(_write(tmp_path / "t.csv", rows=[("a.png", "cat", "0.5"), ("b.png", "dog", "0.7")]))


def test_a_class_that_is_called_like_the_column_is_no_missing_header(tmp_path: Path) -> None:
    rows = [("image", "label"), ("0", "label"), ("1", "other")]
    pd.testing.assert_frame_equal(read_table(_write(tmp_path / "t.csv", rows=rows)), _frame(rows))


def test_unreadable_tables_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "a.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(DataError, match="not a readable CSV table"):
        read_table(tmp_path / "a.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="not a readable CSV table"):
        read_table(tmp_path / "empty.csv")


def test_tables_of_other_formats_get_the_command_that_converts_them(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    pd.DataFrame({"image": ["1"], "label": ["a"]}).to_json(path)
    with pytest.raises(
        DataError, match=r"t\.json: not a CSV table(?s:.*)python -c 'import pandas; pandas\.read_json"
    ) as error:
        read_table(path)
    command = error.value.next_step.partition(": ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert read_table(tmp_path / "t.csv").columns.tolist() == ["image", "label"]


def test_a_column_that_is_named_twice_is_refused_unless_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,label,label\n1,a,a\n")
    assert read_table(path)["label"].tolist() == ["a"]
    path.write_text("image,label, label\n1,a,b\n")
    with pytest.raises(DataError, match=r"two columns named 'label' that differ(?s:.*)image, label, label"):
        read_table(path)
