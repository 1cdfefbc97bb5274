"""The study on the toy run: one run for each split, trained once, and the pooled table."""

import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from soups.checkpoints.card import read_card
from soups.data.split import split_samples

ToyRun = Any
PrintedText = Callable[[], str]
SCRIPT = Path(__file__).parents[3] / "scripts" / "study.py"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("study", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study", module)
    spec.loader.exec_module(module)
    return module


def training(folder: Path) -> list[dict[str, Any]]:
    cards = [read_card(path) for path in sorted((folder / "models").glob("*_epochs*"))]
    return [card.training for card in cards if card is not None]


def test_a_study_over_two_splits(toy_run_copy: ToyRun, study: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: content for path, content in toy_run_copy.contents().items() if path.startswith("runs/toys/models")}
    assert study.main(["--name", "toys", "--split-seeds", "0,3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("study of run toys: toys, toys-s3\n") and "mean of 2 splits" in text
    own, other = training(toy_run_copy.run), training(toy_run_copy.folder / "runs" / "toys-s3")
    assert [one | {"random_seed": one["random_seed"] + 3} for one in own] == other and len(other) == 3
    assert (toy_run_copy.folder / "runs" / "latest").read_text() == "toys\n"
    folder = toy_run_copy.folder / "runs" / "toys-study"
    with (folder / "study.csv").open(encoding="utf-8") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    with (folder / "splits.csv").open(encoding="utf-8") as stream:
        single = [row for row in csv.DictReader(stream) if row["name"] == "uniform soup"]
    assert {"best single", "uniform soup", "greedy soup", "greedy soup + best single", "soft vote"} <= set(rows)
    assert [row["run"] for row in single] == ["toys", "toys-s3"]
    assert float(rows["uniform soup"]["test"]) == pytest.approx(sum(float(row["test"]) for row in single) / 2)
    assert (folder / "study.md").read_text().splitlines()[0].startswith("|  | test %")
    done = toy_run_copy.contents()
    assert {path: done[path] for path in before} == before
    assert study.main(["--split-seeds", "0,3"]) == 0
    assert capsys.readouterr().out == text and toy_run_copy.contents() == done


def test_recipes_and_seeds_of_training(toy_run_copy: ToyRun, study: ModuleType, printed_text: PrintedText) -> None:
    arguments = ["--name", "toys", "--split-seeds", "0", "--random-seeds", "7", "--soup", "top_k"]
    assert study.main(arguments) == 0
    printed = printed_text()
    assert "top_k soup" in printed and "uniform soup" not in printed
    folder = toy_run_copy.folder / "runs" / "toys-s0-r7"
    assert [one["random_seed"] for one in training(folder)] == [7, 7, 7]
    assert (folder / "samples.csv").read_bytes() == (toy_run_copy.run / "samples.csv").read_bytes()


def test_equal_splits_are_logged(toy_run_copy: ToyRun, study: ModuleType, printed_text: PrintedText) -> None:
    for path in list((toy_run_copy.run / "models").glob("*_epochs*"))[1:]:
        path.unlink()
    table = pd.read_csv(toy_run_copy.run / "samples.csv", dtype=str)
    undecided = table.assign(split=table["split"].where(~table["split"].isin(["train", "val"]), ""))
    same = next(seed for seed in range(1, 99) if split_samples(undecided, 0.5, seed)["split"].equals(table["split"]))
    assert study.main(["--name", "toys", "--split-seeds", f"0,{same}", "--soup", "uniform"]) == 0
    assert f"toys, toys-s{same}: the same split; they differ in the seed of training alone" in printed_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split-seeds", "a"], ["--split-seeds", "0-11", "'a'"]),
        (["--random-seeds", "1,2"], ["--random-seeds", "5 seeds, one for each split", "1,2"]),
        (["--soup", "gready"], ["gready", "greedy"]),
        (["--name", "nothing"], ["no such run"]),
    ],
)
def test_invalid_requests(
    toy_run: ToyRun,
    monkeypatch: pytest.MonkeyPatch,
    study: ModuleType,
    printed_text: PrintedText,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(toy_run.folder)
    assert study.main(arguments) == 2
    error = printed_text()
    assert all(word in error for word in words), error
