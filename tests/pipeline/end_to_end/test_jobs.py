"""Several models in parallel: a failure stops no other model, and the models have the same bytes."""

import multiprocessing
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import finetune
import soups.pipeline.train.one_model as training
from soups.files import atomic as records
from tests.toy_runs import ToyRun


def test_a_failed_model_is_reported_with_the_end_of_its_log(
    toy_run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    write = training.write_checkpoint

    def fails_for_seven(path: Any, state: Any, card: Any) -> None:
        if path.name.startswith("toys7"):
            raise OSError(28, "No space left on device", str(path))
        write(path, state, card)

    monkeypatch.setattr(training, "write_checkpoint", fails_for_seven)
    assert toy_run_copy.finetune("--i", "6-8", "--epochs", "4") == 5
    printed = printed_text()
    assert re.search(r"1 of 3 fine-tunes failed; the others are kept toys7: \S+toys7_epochs4\S+: disk full", printed)
    assert re.search(r"the last lines of \S+toys7.jsonl: toys7: epoch 2 of 4, .*toys7: epoch 4 of 4, loss", printed)
    assert "toys7: epoch 1" not in printed[printed.index("fine-tunes failed") :]
    assert "run the same command again" in printed
    assert len(list((toy_run_copy.run / "models").glob("toys[68]_epochs4.safetensors"))) == 2


def test_a_full_disk_gives_the_exit_code_of_the_environment(
    toy_run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    def full(path: Any, state: Any, card: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_checkpoint", full)
        assert toy_run_copy.finetune("--i", "6,7", "--epochs", "1") == 4
    printed = printed_text()
    assert "2 of 2 fine-tunes failed toys6:" in printed and printed.count("disk full") == 2
    assert toy_run_copy.finetune("--i", "6,7", "--epochs", "1") == 0


def test_a_model_that_another_process_trains_is_waited_for_at_the_end(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_SECONDS_BEFORE_NOTICE", 0.05)
    models, begun, over = toy_run_copy.run / "models", threading.Event(), threading.Event()
    say = records.logger.info

    def noted(*words: object) -> None:
        say(*words)
        over.set()

    monkeypatch.setattr(records.logger, "info", noted)  # Its one message: the command waits for toys6.

    def be_at_work() -> None:
        with records.hold_lock(models, "toys6"):
            begun.set()
            over.wait(600)

    other = threading.Thread(target=be_at_work)
    other.start()
    begun.wait()
    try:
        assert toy_run_copy.finetune("--i", "6-8", "--epochs", "1") == 0
    finally:
        over.set()
        other.join()
    said = capsys.readouterr().err
    places = [said.index(f"toys{index}_epochs1.safetensors: written") for index in (7, 8, 6)]
    assert places == sorted(places)
    assert "toys6: another process is working on it; waiting until it has finished" in said


def test_two_jobs_of_a_new_run_give_the_weights_of_one(
    toy_run: ToyRun, tmp_path: Path, printed_text: Callable[[], str]
) -> None:
    flags = ["--runs-folder", str(tmp_path), *toy_run.flags[2:], *toy_run.training, "--device", "cpu"]
    assert finetune.main(["--name", "two", *flags, "--i", "0,1", "--jobs", "2"]) == 0
    assert finetune.main(["--name", "one", *flags, "--i", "0,1"]) == 0
    for index in (0, 1):
        one, two = (
            load_file(tmp_path / name / "models" / f"{name}{index}_epochs2.safetensors") for name in ("one", "two")
        )
        assert all(np.array_equal(one[key], two[key]) for key in one)
    assert finetune.main(["--name", "three", *flags, "--i", "0-3", "--jobs", "2", "--metric", "luck"]) == 2
    assert "luck" in printed_text()
    assert not (tmp_path / "three").exists() and multiprocessing.active_children() == []


def test_two_jobs_give_the_bytes_of_one(toy_run_copy: ToyRun) -> None:
    models = toy_run_copy.run / "models"
    paths = [models / f"toys{index}_epochs2.safetensors" for index in (6, 7, 8)]
    assert toy_run_copy.finetune("--i", "6-8") == 0
    serial = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    assert toy_run_copy.finetune("--i", "6-8", "--jobs", "2") == 0
    assert [path.read_bytes() for path in paths] == serial


def test_a_wrong_number_of_jobs_is_refused(toy_run_copy: ToyRun, printed_text: Callable[[], str]) -> None:
    assert toy_run_copy.finetune("--i", "5", "--jobs", "many") == 2
    assert "--jobs" in printed_text()
