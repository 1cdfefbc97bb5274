"""Checks the checkpoints of a foreign pool (made by other tools): each file, and their layouts against each other."""

import logging
from collections.abc import Iterable
from pathlib import Path

from soups.checkpoints.average import check_cards
from soups.checkpoints.checkpoint import read_layout
from soups.checkpoints.compatibility import check_duplicates, check_layouts
from soups.core.errors import DataError
from soups.files.jsonl import append_record, read_records
from soups.pipeline.run.model_files import read_translated
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import FILE
from soups.weights.safetensors_header import Layout, layout_of

logger = logging.getLogger(__name__)

NotesAndLayout = tuple[tuple[str, ...], Layout]
"""Notes on what was changed in a file, and the layout of its tensors."""


def check_members(run: Run) -> None:
    """Raise an error unless every checkpoint of a foreign pool belongs to its network; checks each file once.

    Dropped and filled-in tensors are reported and recorded in the run's `logs/foreign.jsonl`.

    Raises:
        DataError: files are not checkpoints of the network (the message lists all), or a model occurs twice.
    """
    log = run.folder / "logs" / "foreign.jsonl"
    is_recorded = (run.folder / FILE).exists()  # Lines of a refused attempt may describe other files.
    known = {(line["model_name"], line["sha256"]) for line in read_records(log)} if is_recorded else set()
    members = run.finetunes()
    new = dict(members)
    if known:
        hashes = run.hashes(members)
        new = {
            path: members[path]
            for path, sha256 in zip(members, hashes, strict=True)
            if (path.stem, sha256) not in known
        }
    if not new:
        return
    checked = _check_files(run, new)
    old = next((path for path in members if path not in new), None)
    both = ({old: _check_file(run, old)} if old is not None else {}) | checked
    check_layouts({str(path): layout for path, (_, layout) in both.items()})
    check_duplicates(dict(zip(map(str, members), run.hashes(members), strict=True)))
    for path, sha256 in zip(new, run.hashes(new), strict=True):
        append_record(log, {"model_name": path.stem, "sha256": sha256, "notes": list(checked[path][0])})
    _log_notes({path.name: notes for path, (notes, _) in checked.items()})


def check_any_member(run: Run) -> None:
    """Raise an error unless at least one checkpoint of a foreign pool belongs to its network; records nothing.

    Raises:
        DataError: none belongs to it; the message says why the first does not.
    """
    failures: list[DataError] = []
    for path in run.finetunes():
        try:
            _check_file(run, path)
        except DataError as error:
            failures.append(error)
        else:
            return
    raise DataError(f"none of the {len(failures)} checkpoints fits; the first: {failures[0]}")


def _log_notes(notes: dict[str, tuple[str, ...]]) -> None:
    """Log the notes on the files, one line per distinct note."""
    for note in filter(None, dict.fromkeys(notes.values())):
        names = [name for name, each in notes.items() if each == note]
        logger.info("%s: %s", names[0] + (f" and {len(names) - 1} more" if names[1:] else ""), "; ".join(note))


def _check_files(run: Run, paths: Iterable[Path]) -> dict[Path, NotesAndLayout]:
    """Returns the notes on each file and its tensors' layout under our names."""
    checked: dict[Path, NotesAndLayout] = {}
    failures: list[DataError] = []
    for path in paths:
        try:
            checked[path] = _check_file(run, path)
        except DataError as error:
            failures.append(error)
    if len(failures) > 1 and not checked:
        raise DataError(f"none of the {len(failures)} checkpoints fits; the first: {failures[0]}")
    if failures:
        raise failures[0] if len(failures) == 1 else DataError("\n".join(map(str, failures)))
    return checked


def _check_file(run: Run, path: Path) -> NotesAndLayout:
    card = run.card_of(path)
    if card is not run.card_without_file:
        check_cards([run.card_without_file, card], [f"the pool of run {run.name}", str(path)])
        return (), read_layout(path)
    translated = read_translated(run, path)
    return translated.notes, layout_of(translated.state)
