"""Runs that a command made and could not start to train are removed; all others stay."""

from pathlib import Path

import pytest

from soups.core.errors import DataError, UserError
from soups.files.atomic import write_text
from soups.pipeline.run.refused_start import discard_refused_runs, note_new_run
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import RunSettings
from tests.pipeline.small_run import make_run, recorded_settings


def start(folder: Path, name: str, error: Exception | None, *, trains: bool = False) -> None:
    """Make a run as a command does, begin its training if it `trains`, and end with an error."""
    settings = RunSettings(runs_folder=str(folder))
    with discard_refused_runs(settings):
        note_new_run(Run(folder / name, folder / name / "models", recorded_settings()))
        record_run(folder / name, make_run(folder, name).recorded)
        write_text(folder / "latest", f"{name}\n")
        if trains:
            write_text(folder / name / "logs" / "training" / f"{name}0.jsonl", "")
        if error is not None:
            raise error


def test_only_a_refused_start_is_removed(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        start(tmp_path, "first", DataError("no"))
    assert not list(tmp_path.iterdir()), "no run, and no last run"
    start(tmp_path, "good", None)
    with pytest.raises(UserError):
        start(tmp_path, "refused", DataError("no"))
    assert not (tmp_path / "refused").exists() and (tmp_path / "latest").read_text() == "good\n"
    for name, error, kind in (
        ("begun", DataError("no"), UserError),
        ("stopped", KeyboardInterrupt(), KeyboardInterrupt),
    ):
        with pytest.raises(kind):
            start(tmp_path, name, error, trains=name == "begun")  # type: ignore[arg-type]
        assert (tmp_path / name).exists() and (tmp_path / "latest").read_text() == f"{name}\n"


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "mine" / "notes.txt", "mine")
    with pytest.raises(UserError):
        start(tmp_path, "mine", DataError("no"))
    assert (tmp_path / "mine" / "notes.txt").exists() and not (tmp_path / "mine" / "settings.yaml").exists()
