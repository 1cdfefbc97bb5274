"""Checks the checkpoints of a foreign pool (made by other tools): each file, and their layouts against each other."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from soups.checkpoints.average import check_cards
from soups.checkpoints.checkpoint import read_layout
from soups.checkpoints.compatibility import check_duplicates, check_layouts
from soups.core.errors import DataError
from soups.files.jsonl import append_record, read_records
from soups.models.foreign.files import holds_average
from soups.pipeline.run.model_files import READ_AS, read_translated
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import FILE
from soups.weights.safetensors_header import Layout, layout_of

logger = logging.getLogger(__name__)

HALF = frozenset({"float16", "bfloat16"})
NotesAndLayout = tuple[tuple[str, ...], Layout]
"""Notes on what was changed in a file, and the layout of its tensors."""


def check_members(run: Run) -> None:
    """Raise an error unless every checkpoint of a foreign pool belongs to its network; checks each file once.

    Dropped and filled-in tensors are reported and recorded in the run's `logs/foreign.jsonl`.

    Raises:
        DataError: files are not checkpoints of the network (the message lists all), or a model occurs twice.
    """
    log = run.folder / "logs" / "foreign.jsonl"
    if not (run.folder / FILE).exists():  # Lines of a refused attempt may describe other files.
        log.unlink(missing_ok=True)
    known = {(line["model_name"], line["sha256"]) for line in read_records(log) if "sha256" in line}
    members = list(run.finetunes())
    new = members
    if known:
        hashed = zip(members, run.hashes(members), strict=True)
        new = [path for path, sha256 in hashed if (path.stem, sha256) not in known]
    if not new:
        return
    checked = _check_files(run, new)
    old = [path for path in members if path not in checked][:1]
    layouts = {str(path): layout for path, (_, layout) in {**_check_files(run, old), **checked}.items()}
    check_layouts(_record_precision(log, layouts))
    hashes = dict(zip(map(str, members), run.hashes(members), strict=True))
    check_duplicates(hashes)
    for path, (notes, _) in checked.items():
        append_record(log, {"model_name": path.stem, "sha256": hashes[str(path)], "notes": list(notes)})
    _log_notes({path.name: notes for path, (notes, _) in checked.items()})


def _record_precision(log: Path, layouts: Mapping[str, Layout]) -> Mapping[str, Layout]:
    """Record and report that half precision is read as float32 if the files have several dtypes; return the layouts."""
    dtypes = {name: {dtype for _, dtype in layout.values()} - {"int64"} for name, layout in layouts.items()}
    if len(set().union(*dtypes.values())) < 2 or not (half := [name for name in dtypes if dtypes[name] & HALF]):
        return layouts
    append_record(log, {READ_AS: "float32"})
    others = f" and {len(half) - 1} more" if half[1:] else ""
    logger.info(
        "%s%s: half-precision weights are read as float32, because the files have several dtypes", half[0], others
    )
    return {
        name: {key: (shape, "float32" if dtype in HALF else dtype) for key, (shape, dtype) in layout.items()}
        for name, layout in layouts.items()
    }


def check_any_member(run: Run) -> None:
    """Raise an error unless at least one checkpoint of a foreign pool belongs to its network; records nothing.

    Raises:
        DataError: none belongs to it; the message says why the first does not.
    """
    _check_files(run, run.finetunes(), one_suffices=True)


def _log_notes(notes: dict[str, tuple[str, ...]]) -> None:
    """Log the notes on the files, one line per distinct note."""
    for note in filter(None, dict.fromkeys(notes.values())):
        names = [name for name, each in notes.items() if each == note]
        logger.info("%s: %s", names[0] + (f" and {len(names) - 1} more" if names[1:] else ""), "; ".join(note))


def _check_files(run: Run, paths: Iterable[Path], *, one_suffices: bool = False) -> dict[Path, NotesAndLayout]:
    """Returns the notes on each file and its tensors' layout under our names.

    Args:
        run: the run of the pool.
        paths: the files.
        one_suffices: check no further files after the first one that fits.
    """
    checked: dict[Path, NotesAndLayout] = {}
    failures: list[DataError] = []
    for path in paths:
        try:
            checked[path] = _check_file(run, path)
            if one_suffices:
                return checked
        except DataError as error:
            failures.append(error)
    if not checked and (one_suffices or len(failures) > 1):
        raise DataError(f"none of the {len(failures)} checkpoints fits; the first: {failures[0]}")
    if failures:
        raise failures[0] if len(failures) == 1 else DataError("\n".join(map(str, failures)))
    return checked


def _check_file(run: Run, path: Path) -> NotesAndLayout:
    card = run.card_of(path)
    if card is not run.card_without_file:
        check_cards({f"the pool of run {run.name}": run.card_without_file, str(path): card})
        return (), read_layout(path)
    translated = read_translated(run, path)
    notes: tuple[str, ...] = ()
    if run.recorded.foreign is not None and not run.recorded.foreign.ema and holds_average(path):
        notes = ("its averaged weights (EMA) are not used: --ema takes them",)
    return (*translated.notes, *notes), layout_of(translated.state)
