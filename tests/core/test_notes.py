"""Notes about data: one line each, collected once."""

import logging

import pytest

from soups.core.notes import Note, add_note, collect_notes, hold_notices, mute_notes


def test_notes_are_logged_and_collected_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), collect_notes() as notes:
        add_note("left out", "data: 3 files", warning=True)
        add_note("left out", "data: 3 files", warning=True)
        add_note("read as", "data: two classes")
    add_note("changed", "after the context")
    assert notes == [Note("left out", "data: 3 files"), Note("read as", "data: two classes")]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "data: 3 files"),
        ("INFO", "data: two classes"),
    ]


def test_notes_of_data_that_is_read_on_trial_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), collect_notes() as notes, mute_notes():
        add_note("read as", "on trial")
    assert not notes
    assert not caplog.records


def test_a_context_within_a_context_collects_for_both(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), collect_notes() as outer:
        with collect_notes() as inner:
            add_note("read as", "inside")
        with collect_notes() as again:
            add_note("read as", "inside")
        add_note("read as", "outside")
    assert [note.text for note in inner] == [note.text for note in again] == ["inside"]
    assert [record.message for record in caplog.records] == ["inside", "outside"]
    assert [note.text for note in outer] == ["inside", "outside"]


def test_held_notices_have_kinds_and_are_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        with hold_notices("soups.core.notes", "soups.data") as held:
            add_note("left out", "data: 3 files", warning=True)
            logging.getLogger("soups.data.split").warning("%d classes", 3)
            logging.getLogger("soups.data").info("a layout")
            logging.getLogger("soups.runtime").info("printed")
        add_note("read as", "after the context")
    assert held == [Note("left out", "data: 3 files"), Note("warning", "3 classes"), Note("read as", "a layout")]
    assert caplog.messages == ["printed", "after the context"]


def test_held_notices_are_printed_before_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), pytest.raises(ValueError, match="wrong"), hold_notices("soups.core.notes"):
        add_note("read as", "data: two classes")
        raise ValueError("wrong")
    assert caplog.messages == ["data: two classes"]
