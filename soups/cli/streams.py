"""Output streams whose encoding lacks characters that are printed."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from soups.core.printable import escape_controls

_PLAIN = {
    "─": "-",
    "→": "->",
    "×": "x",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "·": ".",
}
"""Typographic characters of tables and messages → how they are written in ASCII."""
_HANDLER = "soups.plain"


def restart_in_utf8_mode() -> None:
    """Replace this process by one in Python's UTF-8 mode if the locale cannot express file names, as `LC_ALL=C` cannot.

    Python does so by itself unless `PYTHONUTF8=0` or `PYTHONCOERCECLOCALE=0` forbids it. Without it, names with other
    characters than ASCII could not be written into tables.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def printable_streams() -> Iterator[None]:
    """Within the block, a character that stdout or stderr cannot encode is replaced instead of raising an error.

    Control characters that are printed to stdout are written out. stderr keeps them, because progress bars need them.

    Typographic characters become their ASCII spelling, bytes of undecodable file names (surrogates) become those
    bytes again, and all others become `\\uXXXX`.
    """
    codecs.register_error(_HANDLER, _replace)
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=_HANDLER)
    try:
        with redirect_stdout(_EscapingStream(sys.stdout)):
            yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            if not stream.closed:
                stream.reconfigure(errors=errors)


class _EscapingStream:
    """A text stream that writes out control characters."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write(escape_controls(text))


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return os.fsencode(character), error.start + 1
    spelling = _PLAIN.get(character)
    return spelling or character.encode("ascii", "backslashreplace").decode(), error.start + 1
