"""Formats of cells, aligned text and Markdown."""

import pytest

from soups.core.printable import TABLE_WIDTH
from soups.report.tables import (
    align_columns,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    markdown_table,
    table_cells,
    without_empty_columns,
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


def test_wide_tables_are_folded_on_a_terminal() -> None:
    cells = [
        ["model", "val %", "test %", "images/s"],
        ["a", "90.0", "80.0", "1,000"],
        ["long name", "91.0", "81.0", "2"],
    ]
    whole = align_columns(cells, ["a note of several words"])
    token = TABLE_WIDTH.set(24)
    try:
        folded = align_columns(cells, ["a note of several words"]).splitlines()
        assert align_columns([["model"], ["a"]]) == "model\n─────\na"
    finally:
        TABLE_WIDTH.reset(token)
    assert max(map(len, folded)) <= 24 < max(map(len, whole.splitlines()))
    assert folded == [
        *(
            "model      val %  test %",
            "─────────  ─────  ──────",
            "a           90.0    80.0",
            "long name   91.0    81.0",
        ),
        *("", "model      images/s", "─────────  ────────", "a             1,000", "long name         2"),
        "a note of several words",
    ]


def test_columns_without_a_value_are_left_out() -> None:
    cells = [["", "val", "shift"], ["–", "–", "–"], ["b", "1", "–"]]
    assert without_empty_columns(cells) == [["", "val"], ["–", "–"], ["b", "1"]]
