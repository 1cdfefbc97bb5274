"""Work on machines that do not see the run's folder: the returned files equal those made here."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import finetune
import inference
import main
from soups.runtime.launchers import LAUNCHERS, LocalLauncher
from tests.toy_runs import ToyRun


@pytest.fixture
def as_remote_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine takes the place of the others: the files that are sent and returned are the same."""
    monkeypatch.setitem(LAUNCHERS, "ray", lambda settings, runtime: LocalLauncher(1))


REMOTE = ("--launcher", "ray", "--no-shared-storage")


def without_speed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def test_returned_fine_tunes_equal_those_made_here(toy_run_copy: ToyRun, as_remote_machine: None) -> None:
    path, log = (
        toy_run_copy.run / "models" / "toys7_epochs2.safetensors",
        toy_run_copy.run / "logs" / "training" / "toys7.jsonl",
    )
    assert toy_run_copy.finetune("--i", "7") == 0
    content, lines = path.read_bytes(), toy_run_copy.log("training/toys7.jsonl")
    path.unlink()
    log.unlink()
    before = toy_run_copy.contents()
    assert toy_run_copy.finetune("--i", "7", *REMOTE) == 0
    assert path.read_bytes() == content
    assert without_speed(toy_run_copy.log("training/toys7.jsonl")) == without_speed(lines)
    added = {name for name in toy_run_copy.contents() if name not in before}
    assert added == {f"runs/toys/models/{path.name}", "runs/toys/logs/training/toys7.jsonl"}
    assert toy_run_copy.finetune("--i", "7", "--lr", "1e-4", "--epochs", "3", "--overwrite", *REMOTE) == 0
    assert not path.exists() and path.with_name("toys7_epochs3.safetensors").exists()


def test_scores_and_logits_are_returned(toy_run_copy: ToyRun, as_remote_machine: None) -> None:
    lines = toy_run_copy.log("individual_results.jsonl")
    logits = {path.name: path.read_bytes() for path in (toy_run_copy.run / "logits").rglob("*.npy")}
    assert logits
    (toy_run_copy.run / "logs" / "individual_results.jsonl").unlink()
    for path in (toy_run_copy.run / "logits").rglob("*.npy"):
        path.unlink()
    assert main.main(["--eval-individual-models", *REMOTE]) == 0
    assert sorted(toy_run_copy.log("individual_results.jsonl"), key=str) == sorted(lines, key=str)
    back = {path.name: path.read_bytes() for path in (toy_run_copy.run / "logits").rglob("*.npy")}
    assert back.items() <= logits.items() and len(back) >= 3


def test_logits_of_shards_are_returned(
    toy_run_copy: ToyRun, as_remote_machine: None, printed_text: Callable[[], str]
) -> None:
    command = ["--soft-voting", "--eval-batch-size", "4", "--shard-size", "8", "--output"]
    logits = toy_run_copy.run / "logits"
    shutil.rmtree(logits)
    assert inference.main([*command, "here.csv"]) == 0
    made = {path.name: path.read_bytes() for path in logits.iterdir()}
    shutil.rmtree(logits)
    assert inference.main([*command, "remote.csv", *REMOTE]) == 0
    assert {path.name: path.read_bytes() for path in logits.iterdir()} == made and len(made) == 9
    assert Path("remote.csv").read_bytes() == Path("here.csv").read_bytes()
    next(logits.iterdir()).unlink()
    printed_text()
    assert inference.main([*command, "remote.csv", *REMOTE]) == 0
    assert "8 of 9 tasks are done already" in printed_text()


def test_runs_that_cannot_be_sent_are_refused(
    toy_run_copy: ToyRun, printed_text: Callable[[], str], as_remote_machine: None, toy_data: Path
) -> None:
    assert toy_run_copy.finetune("--i", "8", "--no-shared-storage") == 2
    assert "--no-shared-storage is for a Ray cluster next: add --launcher ray" in printed_text()
    assert toy_run_copy.finetune("--i", "8", "--launcher", "slurm") == 2
    assert "slurm" in (message := printed_text()) and "local, ray" in message
    settings = toy_run_copy.run / "settings.yaml"
    settings.write_text(settings.read_text().replace(str(toy_data), "toys"))
    (toy_run_copy.folder / "toys").symlink_to(toy_data)
    flags = ["--name", "toys", "--i", "8", "--epochs", "1", *REMOTE]
    assert finetune.main(flags) == 2
    assert "the run's data location is the relative path toys" in printed_text()
