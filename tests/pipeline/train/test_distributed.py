"""One model on two devices: `accelerate launch finetune.py`, here with two processes of the CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from soups.checkpoints.card import read_card
from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train import distributed
from soups.runtime.process_group import ProcessGroup
from tests.toy_runs import ToyRun

pytestmark = pytest.mark.second_tier

ROOT = Path(__file__).parents[3]
LAUNCH = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"),
    *("--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"),
]


def launch(toy_run: ToyRun, *arguments: str, sharded: bool = False) -> "subprocess.Popen[str]":
    """Starts the command with the toy run's flags on two processes."""
    words = [
        *LAUNCH,
        "--use_fsdp" if sharded else "--multi_gpu",
        str(ROOT / "finetune.py"),
        *toy_run.flags,
        *toy_run.training,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*words, "--device", "cpu", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines_of(toy_run: ToyRun, index: int) -> list[dict[str, Any]]:
    return [
        {"loss": line["loss"], "log_loss": line["val"]["log_loss"], "lr": line["lr"]}
        for line in toy_run.log(f"training/toys{index}.jsonl")
    ]


def trained_alone(toy_run: ToyRun, *flags: str) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Trains fine-tune 7 with one process, returns its weights and log lines, and removes both."""
    assert toy_run.finetune("--i", "7", *flags) == 0
    (path,) = (toy_run.run / "models").glob("toys7_*")
    weights, alone_lines = load_file(path), lines_of(toy_run, 7)
    path.unlink()
    (toy_run.run / "logs" / "training" / "toys7.jsonl").unlink()
    return weights, alone_lines


def assert_close(toy_run: ToyRun, alone: dict[str, np.ndarray], alone_lines: list[dict[str, Any]]) -> None:
    """Asserts that fine-tune 7 equals that of one process up to rounding."""
    (path,) = (toy_run.run / "models").glob("toys7_*")
    together = load_file(path)
    assert together.keys() == alone.keys()
    for key, tensor in together.items():
        np.testing.assert_allclose(tensor, alone[key], atol=3e-4, err_msg=key)
    lines = lines_of(toy_run, 7)
    assert len(lines) == len(alone_lines)
    assert all(line == pytest.approx(other, rel=1e-4) for line, other in zip(lines, alone_lines, strict=True))


@pytest.mark.parametrize(
    ("sharded", "flags"),
    # The last batch of the 18 images is smaller than the group: one process has no share of it.
    [
        (False, ["--lp-epochs", "1", "--class-weights", "auto", "--batch-size", "17"]),
        (True, ["--lp-epochs", "1", "--mix", "0.3", "--clip", "0.5", "--batch-size", "17"]),
    ],
    ids=["ddp", "fsdp"],
)
def test_two_processes_train_as_one_does(toy_run_copy: ToyRun, sharded: bool, flags: list[str]) -> None:
    alone, alone_lines = trained_alone(toy_run_copy, *flags)
    with launch(toy_run_copy, "--i", "7", *flags, sharded=sharded) as process:
        assert process.wait() == 0, process.communicate()[1]
        assert process.stderr is not None
        stderr = process.stderr.read()
    assert_close(toy_run_copy, alone, alone_lines)
    card = read_card(toy_run_copy.run / "models" / "toys7_epochs2.safetensors")
    assert card is not None and card.training["processes"] == 2 and card.training.get("sharded", False) == sharded
    assert stderr.count("toys7: epoch 2 of 3") == 1
    assert toy_run_copy.finetune("--i", "7", *flags) == 0  # The work is the same: nothing is left to do.


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp"])
def test_an_interrupted_group_resumes(toy_run_copy: ToyRun, sharded: bool) -> None:
    flags = ("--epochs", "25", "--lr", "1e-5", "--optimizer", "adamw")
    alone, alone_lines = trained_alone(toy_run_copy, *flags)
    log, state = toy_run_copy.run / "logs" / "training" / "toys7.jsonl", toy_run_copy.run / "states" / "toys7.state"
    with launch(toy_run_copy, "--i", "7", *flags, sharded=sharded) as process:
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 3):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate()[1]
    assert process.returncode != 0
    assert state.exists(), stderr
    if sharded:
        with launch(toy_run_copy, "--i", "7", *flags, sharded=True) as process:
            assert process.wait() == 0, process.communicate()[1]
            assert process.stderr is not None and "going on in epoch" in process.stderr.read()
    else:  # One process can resume the training of two.
        assert toy_run_copy.finetune("--i", "7", *flags) == 0
    assert not state.exists()
    assert_close(toy_run_copy, alone, alone_lines)


@pytest.mark.parametrize("flags", [("--jobs", "2"), ("--launcher", "ray")])
def test_flags_of_several_models_are_refused(toy_run: ToyRun, flags: tuple[str, str]) -> None:
    given = cli.parse(FinetuneSettings, [*toy_run.flags, *flags], {})
    with pytest.raises(UsageError, match=f"{flags[0]} under accelerate launch: its 2 processes train each model"):
        distributed._plan_checked(lambda given: [], ProcessGroup(size=2), given)


def test_rows_of_all_processes_are_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.arange(14).reshape(7, 2)
    shares = [whole[rank::3] for rank in range(3)]
    shares[1], shares[2] = (np.vstack([share, share[-1:]]) for share in shares[1:])
    monkeypatch.setattr(ProcessGroup, "gather", lambda group, part: shares)
    assert np.array_equal(ProcessGroup(rank=1, size=3).gather_rows(shares[1], 7), whole)
