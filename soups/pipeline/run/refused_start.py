"""Removes runs that a command made and could not start to train, so that a mistake leaves nothing behind."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from soups.core.errors import UserError
from soups.files.atomic import write_text
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import FILE
from soups.pipeline.settings.commands import RunSettings

_made: ContextVar[dict[Path, tuple[Run, bool]] | None] = ContextVar("_made", default=None)


@contextmanager
def discard_refused_runs(settings: RunSettings) -> Iterator[None]:
    """Remove the runs that are made in the block if it ends with a user's error before one of their models is trained.

    The last run is then what it was before.
    """
    made, begun = dict[Path, tuple[Run, bool]](), _training_logs(settings)
    latest = Path(settings.runs_folder) / "latest"
    before = latest.read_text(encoding="utf-8") if latest.is_file() else None
    token = _made.set(made)
    try:
        yield
    except UserError:
        for run, is_new_folder in made.values():
            if _is_training(run):
                continue
            if is_new_folder:
                shutil.rmtree(run.folder, ignore_errors=True)
            for name in (FILE, "samples.csv"):
                (run.folder / name).unlink(missing_ok=True)
            run.start.unlink(missing_ok=True)  # It may be in another folder of models.
        if latest.is_file() and _training_logs(settings) == begun:
            latest.unlink() if before is None else write_text(latest, before)
        raise
    finally:
        _made.reset(token)


def note_new_run(run: Run) -> None:
    """Register a run that is about to be written; a folder that exists already is not removed with it."""
    made = _made.get()
    if made is not None:
        made[run.folder] = run, not run.folder.exists()


def _training_logs(settings: RunSettings) -> dict[Path, int]:
    """Returns the time of each log of a fine-tune, which is touched when its training begins."""
    return {path: path.stat().st_mtime_ns for path in Path(settings.runs_folder).glob("*/logs/training/*")}


def _is_training(run: Run) -> bool:
    begun = [run.folder / "logs" / "training", run.folder / "states"]
    return any(folder.is_dir() and any(folder.iterdir()) for folder in begun)
