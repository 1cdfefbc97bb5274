"""Cells that a spreadsheet reads as formulas."""

from pathlib import Path

import pandas as pd
import pytest

from soups.files.atomic import write_table
from soups.files.formulas import find_formulas
from soups.files.table_writers import write_pages

TABLE = pd.DataFrame({"image": ["=cmd.png", "a.png", "-1.5"], "@sum": ["+1+1", "b", "1"], "score": [-1.0, 2.0, 3.0]})


def test_numbers_are_no_formulas() -> None:
    assert find_formulas(TABLE) == ["@sum", "=cmd.png", "+1+1"]
    assert find_formulas(pd.DataFrame({"a": ["-1", "+2.5e-3", ".5", "", "a=b"]})) == []


def test_written_tables_report_them_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pages(tmp_path / "pages.csv", [TABLE, TABLE])
    write_table(tmp_path / "table.csv", TABLE[["score"]])
    [record] = caplog.records
    assert record.getMessage() == (
        f"{tmp_path / 'pages.csv'}: 3 names that begin with =, +, - or @, such as '@sum'; "
        "import the table as text, because a spreadsheet may run them as formulas"
    )
    assert pd.read_csv(tmp_path / "pages.csv")["image"].tolist() == [*TABLE["image"], *TABLE["image"]]
