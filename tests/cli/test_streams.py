"""Printing to streams whose encoding lacks characters."""

import os
import subprocess
import sys

import pytest

from soups.cli.streams import printable_streams

CODE = """
import sys
from pydantic import BaseModel
from soups.cli import outcome

class Settings(BaseModel):
    "Nothing."

def command(parsed):
    print("a → b × 3 – 中")
    print("é" + chr(0xdce9), file=sys.stderr)

sys.exit(outcome.run(Settings, command, []))
"""


@pytest.mark.parametrize(
    ("encoding", "out", "err"),
    [
        ("utf-8", "a → b × 3 – 中".encode(), "é".encode() + b"\xe9"),
        ("cp1252", "a -> b × 3 – \\u4e2d".encode("cp1252"), b"\xe9\xe9"),
        ("ascii", b"a -> b x 3 - \\u4e2d", b"\\xe9\xe9"),
    ],
)
def test_characters_that_the_encoding_lacks_are_replaced(encoding: str, out: bytes, err: bytes) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert (done.returncode, done.stdout.rstrip(), done.stderr.rstrip()) == (0, out, err)


def test_control_characters_are_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    with printable_streams():
        print("red\x1b[31m\nnext")
    print("plain\x07")
    assert capsys.readouterr().out == "red\\x1b[31m\nnext\nplain\x07\n"


def test_a_locale_without_the_characters_of_file_names_restarts_in_utf8_mode() -> None:
    code = "from soups.cli.streams import restart_in_utf8_mode as restart; import sys; restart(); "
    code += "print(sys.getfilesystemencoding(), ascii(sys.argv[1]))"
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code, "é"], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["utf-8", r"'\xe9'"], done.stderr
