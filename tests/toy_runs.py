"""Fixtures with finished toy runs: fine-tunes of colours, runs on factors, and a search."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import finetune
import main
from soups.checkpoints.card import read_card
from soups.pipeline.train import costs
from soups.runtime.workers import call_catching
from tests.data.people import PHOTOS
from tests.pipeline.searching import SPACE, ToySearch, quick_processes, without_figures


class ToyRun:
    """A working folder with the toy run, and its commands."""

    def __init__(self, folder: Path, data: Path, clip: Path) -> None:
        self.folder, self.data, self.clip = folder, data, clip
        self.run = folder / "runs" / "toys"
        self.flags = [
            *("--name", "toys", "--data-location", str(data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5"),
            *("--model", f"local-dir:{clip}", "--precision", "fp32", "--threads", "1"),
        ]
        self.training = ["--epochs", "2", "--lr", "1e-3", "--batch-size", "8"]

    def finetune(self, *arguments: str) -> int:
        """Return the exit code of finetune.py with the toy run's flags and more."""
        return finetune.main([*self.flags, *self.training, *arguments])

    def contents(self) -> dict[str, tuple[int, bytes]]:
        """Return every file with its time and bytes, without figures and locks, which commands write again."""
        return {
            path.relative_to(self.folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.parent.name not in ("figures", ".locks") and not path.name.endswith(".lock")
        }

    def log(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a log of the run."""
        return [json.loads(line) for line in (self.run / "logs" / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> Iterator[ToyRun]:
    """Three fine-tunes, evaluated, with soups, votes and the comparison, in a folder of their own; read-only."""
    folder = tmp_path_factory.mktemp("toy_run")
    toy_run = ToyRun(folder, toy_data, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert (
            toy_run.finetune(
                "--i", "0-2", "--hparams", "random", "--lr-range", "5e-4", "2e-3", "--epochs-range", "2", "3"
            )
            == 0
        )
        everything = ["--eval-individual-models", "--uniform-soup", "--greedy-soup", "--report", "--plot"]
        assert main.main(everything) == 0
        yield toy_run


@pytest.fixture
def toy_run_copy(toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyRun:
    """A copy of `toy_run` that a test may change."""
    shutil.copytree(toy_run.folder, tmp_path / "toy_run")
    monkeypatch.chdir(tmp_path / "toy_run")
    return ToyRun(tmp_path / "toy_run", toy_run.data, toy_run.clip)


@pytest.fixture
def printed_text(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return a function that gives the printed text in one line and checks that it has no traceback."""

    def read() -> str:
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return " ".join((captured.out + captured.err).split())

    return read


class _Threads(ThreadPoolExecutor):
    """A `WorkerPool` of threads in this process."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        return super().submit(call_catching, function, *arguments, **options)


@pytest.fixture
def costs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure costs in this process, because starting one for each network takes seconds."""
    monkeypatch.setattr(costs, "WorkerPool", _Threads)


# Runs on labels with factors

SKIN = {"male": (200, 80, 60), "female": (60, 90, 210)}
CLOTH = {"incorrect_mask": (230, 230, 90), "normal": (90, 60, 40)}
AGES = (22, 25, 41, 44, 66, 70)


def portrait(path: Path, gender: str, photo: str, age: int, generator: np.random.Generator) -> None:
    """Write an image: the upper colour is the gender, the lower the mask, the brightness the age."""
    pixels = np.empty((32, 24, 3))
    pixels[:16], pixels[16:] = SKIN[gender], CLOTH.get(photo, (70, 220, 120))
    pixels *= 0.45 + age / 130
    pixels += generator.normal(0, 12, pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/images/<person>/…`, `eval/images/…` with a template, and `truth/truth.csv`."""
    root, generator = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    for number in range(24):
        gender, age = ("male", "female")[number % 2], AGES[number // 2 % 6]
        for photo in PHOTOS:
            folder = root / "train" / "images" / f"{number:06}_{gender}_Asian_{age}"
            portrait(folder / f"{photo}.png", gender, photo, age, generator)
    rows = []
    for number in range(30):
        gender, age, photo = ("male", "female")[number % 2], AGES[number % 6], PHOTOS[number % 7]
        portrait(root / "eval" / "images" / f"{number:04x}.png", gender, photo, age, generator)
        mask = {"incorrect_mask": 1, "normal": 2}.get(photo, 0)
        band = 0 if age < 30 else 1 if age < 60 else 2
        rows.append((f"{number:04x}.png", f"p{number % 10}", mask * 6 + (number % 2) * 3 + band))
    truth = pd.DataFrame(rows, columns=["ImageID", "group", "ans"])
    (root / "truth").mkdir()
    truth.to_csv(root / "truth" / "truth.csv", index=False)
    truth[["ImageID"]].assign(ans=0).to_csv(root / "eval" / "info.csv", index=False)
    return root


class FactorRuns:
    """A working folder with the runs `mask` (all factors), `age` and `rest` (mask and gender)."""

    def __init__(self, folder: Path, data: Path, clip: Path) -> None:
        self.folder, self.data, self.clip = folder, data, clip

    def finetune(self, name: str, *arguments: str, new: bool = False) -> int:
        flags = ["--data-location", str(self.data), "--model", f"local-dir:{self.clip}", "--threads", "1"] * new
        training = ["--lr", "3e-3", "--batch-size", "16", "--precision", "fp32", "--validate-every", "0"]
        return finetune.main(["--name", name, *flags, *training, *arguments])

    def card(self, name: str) -> Any:
        return read_card(next(self.folder.glob(f"runs/*/models/{name}.safetensors")))


@pytest.fixture(scope="session")
def shared_factor_runs(tmp_path_factory: pytest.TempPathFactory, faces: Path, tiny_clip: Path) -> Iterator[FactorRuns]:
    folder = tmp_path_factory.mktemp("factor_runs")
    shared_factor_runs = FactorRuns(folder, faces, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert shared_factor_runs.finetune("age", "--i", "0", "--epochs", "6", "--target", "age", new=True) == 0
        assert (
            shared_factor_runs.finetune("rest", "--i", "0", "--epochs", "6", "--target", "mask,gender", new=True) == 0
        )
        assert shared_factor_runs.finetune("mask", "--i", "0,1", "--epochs", "6", new=True) == 0
        yield shared_factor_runs


@pytest.fixture
def factor_runs(shared_factor_runs: FactorRuns, monkeypatch: pytest.MonkeyPatch) -> FactorRuns:
    """`shared_factor_runs` with its folder as the working folder; only output may be written."""
    monkeypatch.chdir(shared_factor_runs.folder)
    return shared_factor_runs


@pytest.fixture
def factor_runs_copy(shared_factor_runs: FactorRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FactorRuns:
    """A copy of `shared_factor_runs` that a test may change."""
    shutil.copytree(shared_factor_runs.folder, tmp_path / "factor_runs")
    monkeypatch.chdir(tmp_path / "factor_runs")
    return FactorRuns(tmp_path / "factor_runs", shared_factor_runs.data, shared_factor_runs.clip)


# Runs of a search


@pytest.fixture(scope="session")
def toy_search(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> ToySearch:
    """A search of three trials by log-loss, without figures; read-only."""
    folder = tmp_path_factory.mktemp("toy_search")
    flags = [
        *("--name", "toys", "--data-location", str(toy_data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5"),
        *("--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1", "--batch-size", "8"),
    ]
    toy_search_copy = ToySearch(folder, flags)
    toy_search_copy.write_space(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        without_figures(patch)
        assert toy_search_copy.search() == 0
    return toy_search_copy


@pytest.fixture
def toy_search_copy(toy_search: ToySearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToySearch:
    """A copy of `toy_search` that a test may change, without figures."""
    shutil.copytree(toy_search.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    without_figures(monkeypatch)
    return ToySearch(tmp_path / "copy", toy_search.flags)


@pytest.fixture
def unstarted_search(toy_search_copy: ToySearch) -> ToySearch:
    """The run of `toy_search_copy` as it is before the first trial."""
    toy_search_copy.forget()
    return toy_search_copy


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> ForkServerContext:
    """Processes that start with the slow libraries loaded."""
    return quick_processes(tmp_path_factory.getbasetemp() / "cache")
