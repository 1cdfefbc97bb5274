"""Searches on toys: the command with its usual flags, in this process or in others that are interrupted."""

import csv
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from soups.pipeline.search import results as search_results
from soups.pipeline.search import search as searching

ROOT = Path(__file__).parents[2]
SPACE = """\
lr: {low: 1e-4, high: 1e-2, log: true}
epochs: {low: 1, high: 2}
optimizer: {choices: [adamw, sgd]}
mix: {low: 0, high: 0.5, otherwise: 0}
"""
ONE_RATE = "lr: {low: 1e-4, high: 1e-2, log: true}\n"
LOADED_ONCE = ["open_clip", "timm.optim", "accelerate", "optuna.storages", "alembic.command", "psycopg", "typeguard"]
LOADED_ONCE += ["sqlalchemy.dialects.postgresql.psycopg", "soups.pipeline.search.search", "soups.training.finetune"]
LOADED_ONCE += ["soups.models.load", "tests.pipeline.searching", "tests.pipeline.frozen"]


class ToySearch:
    """A working folder and the script."""

    def __init__(self, folder: Path, flags: list[str]) -> None:
        self.folder, self.run, self.flags = folder, folder / "runs" / "toys", flags

    def script(self, *arguments: str) -> int:
        """Return the exit code of scripts/search.py."""
        spec = importlib.util.spec_from_file_location("search", ROOT / "scripts" / "search.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        code: int = module.main(arguments)
        return code

    def search(self, *arguments: str) -> int:
        """Return the exit code of a search of three trials by log loss, which differs even between poor models."""
        usual = {"--trials": "3", "--space": "space.yaml", "--metric": "log_loss"}
        rest = [part for flag, value in usual.items() if flag not in arguments for part in (flag, value)]
        return self.script(*self.flags, *rest, *arguments)

    def write_space(self, text: str) -> None:
        """Write the file of `--space space.yaml`."""
        (self.folder / "space.yaml").write_text(text, encoding="utf-8")

    def models(self) -> dict[str, bytes]:
        """Return name → bytes of each fine-tune."""
        return {path.stem: path.read_bytes() for path in sorted(self.run.glob("models/*_epochs*"))}

    def rows(self) -> list[dict[str, str]]:
        """Return the table of all trials."""
        with (self.run / "output" / "search.csv").open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def epochs(self, number: int) -> int:
        """Return the number of epochs in a trial's log."""
        return len((self.run / "logs" / "training" / f"toys{number}.jsonl").read_text().splitlines())

    def forget(self) -> None:
        """Remove everything but the run itself."""
        for path in [*self.run.glob("models/*_epochs*"), *self.run.glob("study.journal")]:
            path.unlink()
        for name in ("logs", "output", "figures"):
            shutil.rmtree(self.run / name, ignore_errors=True)


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Skip the figures, which take longer than the toys."""
    patch.setattr(search_results, "draw_search_figures", lambda *arguments: [])


def quick_processes(cache: Path) -> ForkServerContext:
    """Return a context of processes with the slow imports done; decoded images go to the folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED_ONCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # The imports are resolved from here.
        patch.setenv("SOUPS_CACHE", str(cache))
        patch.delenv("WANDB_MODE", raising=False)
        ensure_running()
    return context


def started(context: ForkServerContext, toy_search_copy: ToySearch, *arguments: str, stopped: str = "") -> BaseProcess:
    """Start the command in a process of its own; returns when it is in its first trial.

    Args:
        context: creates the process.
        bench: the working folder.
        arguments: arguments of the search.
        stopped: what happens after an epoch of the first trial: the process "hangs", is "terminated", or "waits" until
            another process is in its first trial; nothing by default.
    """
    process = context.Process(target=_from_a_shell, args=(toy_search_copy, arguments, stopped))
    process.start()
    deadline = time.monotonic() + 600
    while not _sign(toy_search_copy, process.pid).exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _sign(toy_search_copy, process.pid).exists()
    return process


def _sign(toy_search_copy: ToySearch, process: int | None) -> Path:
    return toy_search_copy.folder / f"{process}.at-work"


def _from_a_shell(toy_search_copy: ToySearch, arguments: tuple[str, ...], stopped: str) -> None:
    # Processes of a pool exit differently.
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    train_one = searching.train_one

    def train(task: Any, watch: Any) -> Path:
        def on_epoch(line: dict[str, Any]) -> None:
            watch(line)
            _sign(toy_search_copy, os.getpid()).touch()
            if stopped == "hangs":
                time.sleep(600)
            elif stopped == "waits":
                while len(list(toy_search_copy.folder.glob("*.at-work"))) < 2:
                    time.sleep(0.02)
            elif stopped == "terminated":
                os.kill(os.getpid(), signal.SIGTERM)

        return train_one(task, on_epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "train_one", train)
        without_figures(patch)
        sys.exit(toy_search_copy.search(*arguments))
