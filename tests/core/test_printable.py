"""Control characters in printed names."""

from soups.core.printable import escape_controls


def test_control_characters_are_written_out() -> None:
    assert escape_controls("a\x1b[31mb\x07\x9bc\u202ed") == r"a\x1b[31mb\x07\x9bc\u202ed"


def test_line_breaks_are_kept_except_in_cells() -> None:
    assert escape_controls("a\nb\tc") == "a\nb\tc"
    assert escape_controls("a\nb\tc", one_line=True) == r"a\nb\tc"


def test_printable_text_stays() -> None:
    assert escape_controls("Käfer – 中 \U0001f600 e\u0301") == "Käfer – 中 \U0001f600 e\u0301"
