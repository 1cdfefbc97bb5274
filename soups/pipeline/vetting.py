"""Every file of a folder of checkpoints that were made elsewhere is looked at once, before any work is done on it."""

import logging
from pathlib import Path

from soups.averaging import check_cards
from soups.checkpoints import Card
from soups.errors import DataError
from soups.pipeline.reading import read_translated
from soups.pipeline.recorded import FILE
from soups.pipeline.run import Run
from soups.records import append_record, read_records

logger = logging.getLogger(__name__)


def check_members(run: Run) -> None:
    """Raise unless every checkpoint of a foreign pool is one of its network; each file is looked at once.

    What was dropped or filled in is told, and kept in the run's `logs/foreign.jsonl`.

    Raises:
        DataError: files that are no checkpoint of the network, all of them listed, or the same model twice.
    """
    log = run.folder / "logs" / "foreign.jsonl"
    is_recorded = (run.folder / FILE).exists()  # What a refused attempt looked at may have been something else.
    known = {(line["model_name"], line["sha256"]) for line in read_records(log)} if is_recorded else set()
    members = run.finetunes()
    new = dict(members)
    if known:
        hashes = run.hashes(members.keys())
        new = {
            path: members[path]
            for path, sha256 in zip(members, hashes, strict=True)
            if (path.stem, sha256) not in known
        }
    if not new:
        return
    notes = _checked(run, new)
    _refuse_twins(run, list(members))
    for path, sha256 in zip(new, run.hashes(new), strict=True):
        append_record(log, {"model_name": path.stem, "sha256": sha256, "notes": list(notes[path])})
    for said in dict.fromkeys(notes.values()):
        if said:
            alike = [path.name for path in new if notes[path] == said]
            logger.info("%s: %s", alike[0] + (f" and {len(alike) - 1} more" if alike[1:] else ""), "; ".join(said))


def _checked(run: Run, members: dict[Path, Card]) -> dict[Path, tuple[str, ...]]:
    """What was done to each file, in words."""
    notes: dict[Path, tuple[str, ...]] = {}
    failures: list[DataError] = []
    for path, card in members.items():
        try:
            if card is run.card_without_file:
                notes[path] = read_translated(run, path).notes
            else:
                check_cards([run.card_without_file, card], ["what this run records", str(path)])
                notes[path] = ()
        except DataError as error:
            failures.append(error)
    if len(failures) > 1 and not notes:
        raise DataError(f"none of the {len(failures)} checkpoints fits; the first: {failures[0]}")
    if failures:
        raise DataError("\n".join(map(str, failures))) if len(failures) > 1 else failures[0]
    return notes


def _refuse_twins(run: Run, paths: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path, sha256 in zip(paths, run.hashes(paths), strict=True):
        if (first := seen.setdefault(sha256, path)) != path:
            raise DataError(
                f"{first} and {path.name} are the same model twice",
                expected="each model once",
                found=f"SHA-256 {sha256}",
                next_step="move one of them out of the folder",
            )
