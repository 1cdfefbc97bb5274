"""Runs by name; opening a run only reads, and a command that writes first removes temporary files."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

import inference
import main
from soups.cli import flags
from soups.core.errors import UsageError
from soups.files.temp_files import create_temporary_file
from soups.pipeline.run.run import existing_run, require_run, slug
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.score.context import open_context
from soups.pipeline.score.evaluate import evaluate_individuals
from soups.pipeline.settings.commands import MainSettings, RunSettings
from tests.pipeline.small_run import make_run
from tests.toy_runs import ToyRun


def leave_leftovers(toy_run: ToyRun) -> tuple[bytes, str]:
    """Tear the last line of a log and leave a temporary file of a dead process; return the log and the file's name."""
    log = toy_run.run / "logs" / "individual_results.jsonl"
    log.write_bytes(log.read_bytes() + b'{"model_name": "to')
    temporary = create_temporary_file(toy_run.run / "models" / "toys0.safetensors")
    stray = temporary.rename(temporary.with_name(temporary.name.replace(f".{os.getpid()}-", ".4194301-")))
    return log.read_bytes(), stray.name


def test_opening_a_run_changes_nothing(toy_run_copy: ToyRun, caplog: pytest.LogCaptureFixture) -> None:
    content, _ = leave_leftovers(toy_run_copy)
    before = toy_run_copy.contents()
    context = open_context(flags.parse(MainSettings, [], {}).settings, frozenset())
    assert len(evaluate_individuals(context)) == 3
    assert toy_run_copy.contents() == before
    assert (toy_run_copy.run / "logs" / "individual_results.jsonl").read_bytes() == content
    assert "the last line was cut off by a crash and is skipped" in caplog.text


@pytest.mark.parametrize("command", ["soup", "predictions"])
def test_a_command_that_writes_removes_leftovers_first(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    content, stray = leave_leftovers(toy_run_copy)
    if command == "soup":
        assert main.main(["--soup", "top_k", "--soup-options", "k=2", "--soup-name", "two"]) == 0
    else:
        assert inference.main(["--soft-voting", "--output", "vote.csv"]) == 0
    log = (toy_run_copy.run / "logs" / "individual_results.jsonl").read_bytes()
    assert log == content[: content.rindex(b"\n") + 1]
    assert not (toy_run_copy.run / "models" / stray).exists()
    assert "removed the temporary files of 1 interrupted writes" in capsys.readouterr().err


def test_a_run_by_its_name(tmp_path: Path) -> None:
    run, settings = make_run(tmp_path), RunSettings(runs_folder=str(tmp_path))
    assert existing_run(settings, "p") is None, "a run exists once its settings do"
    record_run(run.folder, run.recorded)
    assert require_run(settings, "p") == existing_run(settings, "p") == replace(run, table=None)
    with pytest.raises(UsageError, match=r"/q: no such run\n.*one of the runs: p\n.*finetune\.py --name q"):
        require_run(settings, "q")


def test_fine_tunes_are_ordered_by_index(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert [path.stem for path in run.finetunes()] == ["p0_epochs2", "p1_epochs2", "p10_epochs2"]
    assert [path.stem for path in replace(run, only=frozenset({"p1_epochs2"})).finetunes()] == ["p1_epochs2"]


def test_a_name_made_of_any_text() -> None:
    assert [slug(text, default="x") for text in ("a b/c", "_a.b-", "ä")] == ["a-b-c", "a.b", "x"]
