"""finetune.py is interrupted or killed, and run again."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import finetune
from soups.runtime.devices import Runtime, deterministic_algorithms
from soups.training.step import OptimizerStep


def test_a_signal_ends_the_training_and_it_resumes(
    toy_data: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--data-location", str(toy_data), "--model", f"local-dir:{tiny_clip}", "--threads", "1", "--i", "0"]
    flags += [
        "--group-pattern",
        r"(p\d+)_",
        "--precision",
        "fp32",
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--lr",
        "1e-3",
    ]
    assert finetune.main(["--name", "whole", *flags]) == 0
    steps, ordinary = 0, OptimizerStep.step

    def step_then_signal(self: OptimizerStep, *arguments: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return ordinary(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(OptimizerStep, "step", step_then_signal)
        assert finetune.main(["--name", "cut", *flags]) == 143
    run = tmp_path / "runs" / "cut"
    assert [path.name for path in (run / "states").iterdir()] == ["cut0.state"]
    # A kill leaves more: a line logged before its state was saved, a torn line, a temporary file.
    log = run / "logs" / "training" / "cut0.jsonl"
    logged = log.read_text()
    with log.open("a") as stream:
        stream.write('{"settings": "torn')
    stray = run / "models" / ".cut0.safetensors.4194305-00000000.x.tmp"
    stray.write_text("")
    os.utime(stray, (0, 0))
    capsys.readouterr()
    assert finetune.main(["--name", "cut", *flags]) == 0
    stderr = capsys.readouterr().err
    assert "cut0.state: going on in epoch 2" in stderr
    assert stderr.count("cut off by a crash") == 1
    assert not stray.exists() and list((run / "states").iterdir()) == []
    assert log.read_text().startswith(logged)
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
    name = "models/{0}0_epochs2.safetensors"
    first, second = ((tmp_path / "runs" / each / name.format(each)).read_bytes() for each in ("whole", "cut"))
    assert first == second
    # The state is lost, but its lines are not logged again.
    (run / name.format("cut")).unlink()
    assert finetune.main(["--name", "cut", *flags]) == 0
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
    assert (run / name.format("cut")).read_bytes() == second


def test_deterministic_is_for_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from soups.core.errors import UsageError
    from soups.runtime import devices as runtime

    requested = Runtime(precision="fp32", threads=1, deterministic=True)
    with deterministic_algorithms(requested):
        assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(runtime, "select_device", lambda name: "elsewhere:0")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with pytest.raises(UsageError, match="no deterministic algorithm"), deterministic_algorithms(requested):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise RuntimeError("put_ does not have a deterministic implementation")
    assert not torch.are_deterministic_algorithms_enabled()
