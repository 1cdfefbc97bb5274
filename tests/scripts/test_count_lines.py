"""Counting lines of code."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "count_lines.py"
specification = importlib.util.spec_from_file_location("count_lines", SCRIPT)
assert specification is not None and specification.loader is not None
script = importlib.util.module_from_spec(specification)
specification.loader.exec_module(script)

TEXT = '''"""A docstring
over two lines."""

import os  # A comment.

# Another comment.
NAMES = (
    "a",

    "b",
)
"""Of the attribute."""


class One:
    """A class."""

    def method(self) -> str:
        return """not a
docstring"""
'''


def test_docstrings_comments_and_blank_lines_do_not_count() -> None:
    assert script.code_lines(TEXT) == 9
    assert script.functions(TEXT) == 1


def test_the_package_is_counted_by_room(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 0
    rows = {line.split("  ")[0]: line.split()[-4:] for line in capsys.readouterr().out.splitlines()}
    assert int(rows["soups/core"][0].replace(",", "")) >= 8
    assert {"soups/pipeline/soup", "tools/stress", "soups/ in all", "top level"} <= set(rows)
