"""Text for terminals: control characters written out so that no terminal obeys them, and the width of tables."""

from contextvars import ContextVar

TABLE_WIDTH: ContextVar[int | None] = ContextVar("TABLE_WIDTH", default=None)
"""Columns that printed tables may take, set by the command: the terminal's; None: any number."""

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_IN_LINES = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROLS}
_IN_TEXT = {code: text for code, text in _IN_LINES.items() if chr(code) not in "\n\t\r"}


def escape_controls(text: str, one_line: bool = False) -> str:
    """Return text with control characters and changes of writing direction as escapes, such as `\\x1b`.

    Args:
        text: any text.
        one_line: escape line breaks and tabs as well, for the cell of a table.
    """
    return text if text.isprintable() else text.translate(_IN_LINES if one_line else _IN_TEXT)
