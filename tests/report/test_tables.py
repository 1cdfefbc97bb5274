"""Formats of cells, aligned text and Markdown."""

import pytest

from soups.report.tables import (
    align_columns,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    markdown_table,
    table_cells,
)

ROW = {"name": "a|b", "test": 0.9407, "test_low": 0.92, "test_high": 0.955, "drop": -0.01}


def test_unknown_values_become_a_dash() -> None:
    row = {"test": None, "test_low": None, "test_high": None}
    assert format_percent(None) == format_number(None, ".3f") == format_p_value(None) == "–"
    assert format_interval(row, "test") == "–"
    assert format_interval(row | {"test": 0.5}, "test") == "50.0"


def test_numbers() -> None:
    assert format_percent(0.9407) == "94.1" and format_number(1234.5, ",.0f") == "1,234"
    assert format_number(ROW["drop"], "+.1f", 100) == "-1.0"  # type: ignore[arg-type]
    assert format_interval(ROW, "test") == "94.1 [92.0, 95.5]"
    assert format_interval(ROW, "test", "+.3f", 1.0) == "+0.941 [+0.920, +0.955]"


@pytest.mark.parametrize(
    ("value", "text"), [(0.00005, "<0.0001"), (0.0005, "0.0005"), (0.0123, "0.012"), (0.1, "0.10"), (1.0, "1.00")]
)
def test_p_values(value: float, text: str) -> None:
    assert format_p_value(value) == text


def test_rows_become_aligned_text_and_markdown() -> None:
    cells = table_cells([{"": ROW["name"], "test %": format_percent(ROW["test"])}])
    assert cells == [["", "test %"], ["a|b", "94.1"]]
    assert align_columns(cells).splitlines() == ["     test %", "───  ──────", "a|b    94.1"]
    assert markdown_table(cells).splitlines() == ["|  | test % |", "| --- | ---: |", r"| a\|b | 94.1 |"]
    assert markdown_table(cells, ["one", "two"]).endswith("94.1 |\n\n- one\n- two")


def test_cells_stay_in_one_line() -> None:
    cells = [["class", "right"], ["a\nb\x1b[31m", "1"]]
    assert align_columns(cells).splitlines()[2] == r"a\nb\x1b[31m      1"
    assert markdown_table(cells).splitlines()[2] == r"| a\nb\x1b[31m | 1 |"
