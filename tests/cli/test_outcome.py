"""Exit codes, messages and notices of a command."""

import errno
import logging
import os

import pytest
from pydantic import BaseModel

from soups.cli import outcome
from soups.core.errors import DataError
from soups.core.printable import TABLE_WIDTH


class Settings(BaseModel):
    """Does nothing."""


def _raise(error: BaseException) -> None:
    raise error


def test_errors_become_messages_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome.run(Settings, lambda given: _raise(DataError("a.png: broken")), []) == 3
    assert capsys.readouterr().err == "error: a.png: broken\n"
    assert outcome.run(Settings, lambda given: _raise(KeyboardInterrupt()), []) == 130
    capsys.readouterr()
    assert outcome.run(Settings, lambda given: _raise(OSError(errno.ENOSPC, "full", "x.lock")), []) == 4
    assert capsys.readouterr().err.startswith("error: x.lock: disk full while writing\n")
    with pytest.raises(ZeroDivisionError):
        outcome.run(Settings, lambda given: _raise(ZeroDivisionError()), [])


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(DataError):
        outcome.run(Settings, lambda given: _raise(DataError("x")), ["--debug"])


def test_notices_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    outcome.run(Settings, lambda given: logging.getLogger("soups.x").info("a notice"), [])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a notice\n")


@pytest.mark.parametrize(("before", "after"), [("module://no_such_backend.inline", "agg"), ("svg", "svg"), ("", "")])
def test_the_backend_of_a_notebook_that_is_not_installed_is_replaced(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", before)
    assert outcome.run(Settings, lambda given: None, []) == 0
    assert os.environ["MPLBACKEND"] == after


def test_control_characters_of_names_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    outcome.run(Settings, lambda given: logging.getLogger("soups.x").info("class a\x1b[31m"), [])
    outcome.run(Settings, lambda given: _raise(DataError("b\x07.png: broken")), [])
    assert capsys.readouterr().err == "class a\\x1b[31m\nerror: b\\x07.png: broken\n"


@pytest.mark.parametrize(
    ("arguments", "terminal", "width"), [([], True, 80), (["--wide"], True, None), ([], False, None)]
)
def test_tables_fit_the_terminal_unless_wide(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], terminal: bool, width: int | None
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    found = []
    assert outcome.run(Settings, lambda given: found.append(TABLE_WIDTH.get()), arguments) == 0
    assert found == [width]
