"""What was decided about the data of a run when it was made, stored in the run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from soups.core.notes import Note
from soups.files.atomic import compact_json, write_text
from soups.files.jsonl import read_records

FILE = Path("logs") / "data_notes.jsonl"


def store_notes(run: Path, notes: Sequence[Note]) -> None:
    """Write the notes of a new run."""
    if notes:
        write_text(run / FILE, "".join(f"{compact_json(asdict(note))}\n" for note in notes))


def read_notes(run: Path) -> list[Note]:
    """Returns the notes of a run; none if it has stored none."""
    return [Note(line["kind"], line["text"]) for line in read_records(run / FILE)]
