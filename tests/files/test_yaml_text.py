"""YAML files whose scalars stay text."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.files.yaml_text import parse_with_lines, to_plain_value


def test_scalars_stay_text_and_empty_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("lr: 1e-5\nname: no\nempty:\nnone: null\nquoted: 'null'\nlist: [1, ~]\nnested: {a: 1}\n")
    document = parse_with_lines(path, "a file")
    assert document is not None
    assert to_plain_value(document) == {
        "lr": "1e-5",
        "name": "no",
        "empty": None,
        "none": None,
        "quoted": "null",
        "list": ["1", None],
        "nested": {"a": "1"},
    }
    assert document.value[1][0].start_mark.line == 1


def test_an_empty_file_has_no_document(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# a comment\n")
    assert parse_with_lines(path, "a file") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file\n  expected: the words"),
        ("- a\n", "not a mapping of settings"),
        ("a: [", "not readable YAML"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=words):
        parse_with_lines(path, "the words")
