"""Notes: what was decided for the user while data was read. Each is logged in one line, and can be collected."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

logger = logging.getLogger(__name__)

Kind = Literal["read as", "left out", "changed"]


@dataclass(frozen=True)
class Note:
    """One decision about the data of a run."""

    kind: Kind
    """What it is about: how something was read, what was left out, or what a setting changed."""
    text: str
    """One line that begins with the file, folder or setting."""


_collected: ContextVar[list[Note] | None] = ContextVar("_collected", default=None)
_muted: ContextVar[bool] = ContextVar("_muted", default=False)


@contextmanager
def collect_notes() -> Iterator[list[Note]]:
    """Return a list that is filled with all notes that are added within the context, each once."""
    notes: list[Note] = []
    outer = _collected.get()
    token = _collected.set(notes)
    try:
        yield notes
    finally:
        _collected.reset(token)
        if outer is not None:
            outer.extend(note for note in notes if note not in outer)


@contextmanager
def mute_notes() -> Iterator[None]:
    """Ignore all notes within the context, in which data is read on trial."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def add_note(kind: Kind, text: str, *, warning: bool = False) -> None:
    """Log a decision, and add it to the notes that are being collected; a repeated one is ignored."""
    note, notes = Note(kind, text), _collected.get()
    if _muted.get() or (notes is not None and note in notes):
        return
    if notes is not None:
        notes.append(note)
    logger.log(logging.WARNING if warning else logging.INFO, "%s", text)
