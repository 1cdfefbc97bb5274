"""Notes about the data of a run are stored with it and read again."""

from pathlib import Path

from soups.core.notes import Note
from soups.pipeline.run.data_notes import read_notes, store_notes


def test_notes_are_read_as_they_were_stored(tmp_path: Path) -> None:
    notes = [Note("left out", 'data: "é" \n'), Note("changed", "--limit 3")]
    store_notes(tmp_path, [])
    assert read_notes(tmp_path) == [] and not list(tmp_path.iterdir())
    store_notes(tmp_path, notes)
    assert read_notes(tmp_path) == notes
