"""The desk: a working folder with a finished toy run, and what tests ask of it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import finetune
import main


class Desk:
    """A folder to work in, with the toy run in it, and the commands."""

    def __init__(self, folder: Path, data: Path, clip: Path) -> None:
        self.folder, self.data, self.clip = folder, data, clip
        self.run = folder / "runs" / "toys"
        self.flags = [
            *("--name", "toys", "--data-location", str(data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5"),
            *("--model", f"local-dir:{clip}", "--precision", "fp32", "--threads", "1"),
        ]
        self.training = ["--epochs", "2", "--lr", "1e-3", "--batch-size", "8"]

    def finetune(self, *arguments: str) -> int:
        """The exit code of finetune.py with the toy run's flags and more."""
        return finetune.main([*self.flags, *self.training, *arguments])

    def contents(self) -> dict[str, tuple[int, bytes]]:
        """Every file with its time and bytes, except figures, which say the same when drawn again."""
        return {
            path.relative_to(self.folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.parent.name not in ("figures", ".locks") and not path.name.endswith(".lock")
        }

    def log(self, name: str) -> list[dict[str, Any]]:
        """The lines of a log of the run."""
        return [json.loads(line) for line in (self.run / "logs" / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> Iterator[Desk]:
    """Three fine-tunes, evaluated, souped, voted and compared, in a working folder of their own."""
    folder = tmp_path_factory.mktemp("desk")
    desk = Desk(folder, toy_data, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert (
            desk.finetune("--i", "0-2", "--hparams", "random", "--lr-range", "5e-4", "2e-3", "--epochs-range", "2", "3")
            == 0
        )
        everything = ["--eval-individual-models", "--uniform-soup", "--greedy-soup", "--report", "--plot"]
        assert main.main(everything) == 0
        yield desk


@pytest.fixture
def copy_of(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A copy of the desk that a test may change."""
    shutil.copytree(desk.folder, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return Desk(tmp_path / "desk", desk.data, desk.clip)


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed, in one line, where no traceback may be."""

    def read() -> str:
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return " ".join((captured.out + captured.err).split())

    return read
