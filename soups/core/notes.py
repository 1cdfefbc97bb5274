"""Notes: what was decided for the user while data was read. Each is logged in one line, and can be collected."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

logger = logging.getLogger(__name__)

Kind = Literal["read as", "left out", "changed", "warning"]


@dataclass(frozen=True)
class Note:
    """One decision about the data of a run."""

    kind: Kind
    """What it is about: how something was read, what was left out, what a setting changed, or a warning."""
    text: str
    """One line that begins with the file, folder or setting."""


_collected: ContextVar[tuple[list[Note], ...]] = ContextVar("_collected", default=())
"""The lists that are being filled, the outermost context's first."""
_muted: ContextVar[bool] = ContextVar("_muted", default=False)


@contextmanager
def collect_notes() -> Iterator[list[Note]]:
    """Return a list that is filled with all notes that are added within the context, each once."""
    notes: list[Note] = []
    token = _collected.set((*_collected.get(), notes))
    try:
        yield notes
    finally:
        _collected.reset(token)


@contextmanager
def mute_notes() -> Iterator[None]:
    """Ignore all notes within the context, in which data is read on trial."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def add_note(kind: Kind, text: str, *, warning: bool = False) -> None:
    """Log a decision, once within the outermost context, and add it to the notes that are being collected."""
    note, lists = Note(kind, text), _collected.get()
    if _muted.get():
        return
    is_new = not lists or note not in lists[0]
    for notes in lists:
        if note not in notes:
            notes.append(note)
    if is_new:
        logger.log(logging.WARNING if warning else logging.INFO, "%s", text, extra={"kind": kind})


@contextmanager
def hold_notices(*loggers: str) -> Iterator[list[Note]]:
    """Return a list of what these loggers and their children log within the context, which is not printed.

    If the context raises, it is printed after all, before the error. The kind of other notices than notes is "warning"
    or "read as".
    """
    held, notes = list[logging.LogRecord](), list[Note]()

    class Holder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other: Kind = "warning" if record.levelno >= logging.WARNING else "read as"
            held.append(record)
            notes.append(Note(record.__dict__.get("kind", other), record.getMessage()))

    named, holder = [logging.getLogger(name) for name in loggers], Holder()
    before = [each.propagate for each in named]
    for each in named:
        each.addHandler(holder)
        each.propagate = False
    try:
        yield notes
    except BaseException:
        _release(named, holder, before)
        for record in held:
            logging.getLogger(record.name).handle(record)
        raise
    _release(named, holder, before)


def _release(named: list[logging.Logger], holder: logging.Handler, propagate: list[bool]) -> None:
    for each, value in zip(named, propagate, strict=True):
        each.removeHandler(holder)
        each.propagate = value
