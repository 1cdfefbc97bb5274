"""The command `show_batch`: the first training images of a fine-tune."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pipeline.commands.run_script import run

PrintedText = Callable[[], str]
FactorRuns = Any


def test_the_first_batch_before_the_run_exists(
    faces: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data-location", str(faces), "--model", f"local-dir:{tiny_clip}", "--images", "12"]
    sizes = set()
    for options in ([], ["--augmentation", "custom"], ["--old-aug"], ["--augmentation", "none"]):
        assert run("show_batch", *data, *options) == 0
        assert capsys.readouterr().out.strip() == "batch.png"
        sizes.add(Path("batch.png").read_bytes())
    assert len(sizes) == 4 and not Path("runs").exists()
    with Image.open("batch.png") as picture:
        assert picture.width > 600 and picture.height > 600


def test_the_first_batch_of_a_run(
    factor_runs: FactorRuns, capsys: pytest.CaptureFixture[str], printed_text: PrintedText
) -> None:
    assert run("show_batch", "--name", "mask", "--images", "8", "--output", "shown.png") == 0
    assert Path("shown.png").stat().st_size > 5000
    printed_text()
    assert run("show_batch", "--name", "mask", "--target", "age") == 2
    assert "--target: run 'mask' was made with another value" in printed_text()
    assert run("show_batch", "--name", "mask", "--augmentation", "baze") == 2
    assert "unknown augmentation 'baze'" in printed_text()
