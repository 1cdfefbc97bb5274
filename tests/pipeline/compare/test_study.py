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

Desk = Any
ErrorOf = Callable[[], str]
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


def test_a_study_over_two_splits(copy_of: Desk, study: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: content for path, content in copy_of.contents().items() if path.startswith("runs/toys/models")}
    assert study.main(["--name", "toys", "--split-seeds", "0,3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("study of run toys: toys, toys-s3\n") and "mean of 2 splits" in text
    own, other = training(copy_of.run), training(copy_of.folder / "runs" / "toys-s3")
    assert [one | {"random_seed": one["random_seed"] + 3} for one in own] == other and len(other) == 3
    assert (copy_of.folder / "runs" / "latest").read_text() == "toys\n"
    folder = copy_of.folder / "runs" / "toys-study"
    with (folder / "study.csv").open(encoding="utf-8") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    with (folder / "splits.csv").open(encoding="utf-8") as stream:
        single = [row for row in csv.DictReader(stream) if row["name"] == "uniform soup"]
    assert {"best single", "uniform soup", "greedy soup", "greedy soup + best single", "soft vote"} <= set(rows)
    assert [row["run"] for row in single] == ["toys", "toys-s3"]
    assert float(rows["uniform soup"]["test"]) == pytest.approx(sum(float(row["test"]) for row in single) / 2)
    assert (folder / "study.md").read_text().splitlines()[0].startswith("|  | test %")
    done = copy_of.contents()
    assert {path: done[path] for path in before} == before
    assert study.main(["--split-seeds", "0,3"]) == 0
    assert capsys.readouterr().out == text and copy_of.contents() == done


def test_recipes_and_seeds_of_training(copy_of: Desk, study: ModuleType, error_of: ErrorOf) -> None:
    arguments = ["--name", "toys", "--split-seeds", "0", "--random-seeds", "7", "--soup", "top_k"]
    assert study.main(arguments) == 0
    printed = error_of()
    assert "top_k soup" in printed and "uniform soup" not in printed
    folder = copy_of.folder / "runs" / "toys-s0-r7"
    assert [one["random_seed"] for one in training(folder)] == [7, 7, 7]
    assert (folder / "samples.csv").read_bytes() == (copy_of.run / "samples.csv").read_bytes()


def test_equal_splits_are_logged(copy_of: Desk, study: ModuleType, error_of: ErrorOf) -> None:
    for path in list((copy_of.run / "models").glob("*_epochs*"))[1:]:
        path.unlink()
    table = pd.read_csv(copy_of.run / "samples.csv", dtype=str)
    undecided = table.assign(split=table["split"].where(~table["split"].isin(["train", "val"]), ""))
    same = next(seed for seed in range(1, 99) if split_samples(undecided, 0.5, seed)["split"].equals(table["split"]))
    assert study.main(["--name", "toys", "--split-seeds", f"0,{same}", "--soup", "uniform"]) == 0
    assert f"toys, toys-s{same}: the same split; they differ in the seed of training alone" in error_of()


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
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    study: ModuleType,
    error_of: ErrorOf,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(desk.folder)
    assert study.main(arguments) == 2
    error = error_of()
    assert all(word in error for word in words), error
