"""The command `disagreement`: images on which models or prediction tables disagree."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inference
from tests.pipeline.commands.run_script import run

PrintedText = Callable[[], str]
FactorRuns = Any


def test_models_that_disagree(factor_runs_copy: FactorRuns, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("disagreement", "--name", "mask", "--members", "mask0_epochs6", "mask1_epochs6", "mask_start") == 0
    paths = capsys.readouterr().out.split()
    assert paths == ["runs/mask/output/disagreement.csv", "runs/mask/output/disagreement.html"]
    table = pd.read_csv(paths[0])
    members = ["mask0_epochs6", "mask1_epochs6", "mask_start"]
    factors = ["divided_mask", "divided_gender", "divided_age"]
    assert list(table.columns) == ["image", "divided", *factors, "votes", "truth", *members]
    assert (np.diff(table["divided"]) <= 1e-9).all() and table["divided"].iloc[0] > 0
    alike = table[members].nunique(axis=1) == 1
    assert (alike == (table["divided"] == 0)).all()
    page = Path(paths[1]).read_text()
    for heading in ("All factors together", "Mask", "Gender", "Age"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<img ") == page.count("<figure>") > 4


def test_tables_that_disagree(factor_runs_copy: FactorRuns, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mask0_epochs6", "mask_start"):
        assert inference.main(["--name", "mask", "--model-name", name, "--output", f"{name}.csv"]) == 0
    capsys.readouterr()
    command = ["--members", "mask0_epochs6.csv", "mask_start.csv"]
    assert run("disagreement", "--name", "mask", *command) == 0
    table = pd.read_csv("runs/mask/output/disagreement.csv")
    assert len(table) == 30 and table["mask0_epochs6"].str.count("/").eq(2).all() and "truth" not in table
    assert "data:image/jpeg" in Path("runs/mask/output/disagreement.html").read_text()
    shutil.rmtree("runs")
    assert run("disagreement", *command, "--output", "d.csv", "--test-location", str(faces / "eval")) == 0
    assert "data:image/jpeg" in Path("d.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--members", "mask0_epochs6"], 2, "two or more members"),
        (["--members", "mask0_epochs6", "a.csv"], 2, "models alone or CSVs alone"),
        (["--members", "mask0_epochs6", "age0_epochs6"], 3, "a model of other classes"),
        (["--on", "tset"], 2, "one of val, test"),
        (["--members", "a.csv", "b.csv"], 3, "a.csv: no such file"),
    ],
)
def test_invalid_members(
    factor_runs_copy: FactorRuns, arguments: list[str], code: int, words: str, printed_text: PrintedText
) -> None:
    assert run("disagreement", "--name", "mask", *arguments) == code
    assert words in printed_text()
    assert not Path("runs/mask/output/disagreement.csv").exists()
