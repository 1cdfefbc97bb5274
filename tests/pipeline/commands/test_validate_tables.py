"""The command `validation` with prediction tables against the true labels."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import inference
import validation
from soups.core.scores import macro_f1

PrintedText = Callable[[], str]
FactorRuns = Any


@pytest.fixture
def tables(factor_runs_copy: FactorRuns, faces: Path) -> dict[str, str]:
    """Predictions of two models, the true labels, and a folder of each."""
    paths = {}
    for name in ("mask0_epochs6", "mask1_epochs6"):
        paths[name] = f"{name}.csv"
        assert inference.main(["--name", "mask", "--model-name", name, "--output", paths[name]]) == 0
    shutil.copytree(faces / "truth", "truth")
    Path("out").mkdir()
    shutil.copy(paths["mask0_epochs6"], "out/output.csv")
    return paths


def test_a_table_against_the_truth(
    tables: dict[str, str], factor_runs_copy: FactorRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validation.main(["--predictions", tables["mask0_epochs6"], "--ground-truth", "truth/truth.csv"]) == 0
    text = capsys.readouterr().out
    truth = pd.read_csv("truth/truth.csv").set_index("ImageID")["ans"]
    given = pd.read_csv(tables["mask0_epochs6"]).set_index("ImageID")["ans"].loc[truth.index]
    assert f"{int((truth == given).sum())} of 30 images right" in text
    import numpy as np

    assert f"{100 * macro_f1(np.eye(18)[given], truth.to_numpy()):.1f} [" in text
    assert " 10\n" in text  # Ten people, from the column `group`.
    for name in ("confusion", "confusion_age", "wrong"):
        assert Path(f"runs/mask/figures/mask0_epochs6_{name}.png").stat().st_size > 1000


def test_folders_of_the_environment(
    tables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", "out")
    assert validation.main(["--name", "mask"]) == 0  # Without the other variable it belongs to inference.
    assert "validation images right" in capsys.readouterr().out
    monkeypatch.setenv("SM_GROUND_TRUTH_DIR", "truth")
    assert validation.main([]) == 0
    assert "of 30 images right" in capsys.readouterr().out
    assert validation.main(["--model-name", "mask0_epochs6"]) == 0
    assert "validation images right" in capsys.readouterr().out


def test_several_tables_are_compared_with_the_first(tables: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert validation.main(["--predictions", *tables.values(), "--ground-truth", "truth"]) == 0
    text = capsys.readouterr().out
    assert "gain: macro-F1 against mask0_epochs6" in text and "mask1_epochs6" in text
    rows = pd.read_csv("runs/mask/output/predictions_comparison.csv")
    assert rows["name"].tolist() == ["mask0_epochs6", "mask1_epochs6"]
    both = ["one=mask0_epochs6.csv", "both=mask0_epochs6.csv,mask1_epochs6.csv"]
    assert validation.main(["--predictions", *both, "--ground-truth", "truth"]) == 0
    assert "both: mean of 2 tables" in capsys.readouterr().out


def test_without_a_run_the_layout_or_the_tables_define_the_classes(
    tables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("runs")
    command = ["--predictions", tables["mask0_epochs6"], "--ground-truth", "truth"]
    assert validation.main([*command, "--layout", "profile"]) == 0
    assert "— gender —" in capsys.readouterr().out
    assert Path("mask0_epochs6_confusion_age.png").stat().st_size > 1000
    assert validation.main(command) == 0
    text = capsys.readouterr().out
    assert "of 30 images right" in text and "gender" not in text


def test_tables_that_do_not_fit(tables: dict[str, str], printed_text: PrintedText) -> None:
    truth, given = pd.read_csv("truth/truth.csv"), pd.read_csv(tables["mask0_epochs6"])
    given.iloc[1:].to_csv("short.csv", index=False)
    pd.concat([given, given.iloc[:1]]).to_csv("doubled.csv", index=False)
    given.assign(ImageID=["x.png", *given["ImageID"][1:]]).to_csv("other.csv", index=False)
    given.assign(ans=18).to_csv("classes.csv", index=False)
    given.assign(ans="").to_csv("empty.csv", index=False)
    first = given["ImageID"][0]
    Path("none").mkdir()
    cases = {
        "short.csv": f"short.csv: lacks 1 image: {first}",
        "doubled.csv": f"doubled.csv, line 32: the id {first!r} appears twice",
        "other.csv": f"other.csv: lacks 1 image: {first}",
        "classes.csv": "classes.csv: '18' is neither a class name nor an index",
        "empty.csv": f"empty.csv, line 2: no class for the id {first!r}",
        "gone.csv": "gone.csv: no such file",
    }
    before = sorted(Path().rglob("*"))
    for path, words in cases.items():
        assert validation.main(["--predictions", path, "--ground-truth", "truth"]) == 3, path
        assert words in printed_text(), path
    more = pd.concat([given, given.iloc[:1].assign(ImageID="extra.png")])
    more.to_csv("more.csv", index=False)
    assert validation.main(["--predictions", "more.csv", "--ground-truth", "truth"]) == 3
    assert "more.csv: has also 1 image: extra.png" in printed_text()
    assert len(truth) == 30 and sorted(Path().rglob("*")) == sorted([*before, Path("more.csv")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--predictions", "p.csv"], "--predictions without --ground-truth"),
        (["--predictions", "p.csv", "--model-name", "mask0_epochs6"], "--model-name and --predictions"),
        (
            ["--predictions", "out", "--ground-truth", "runs"],
            "--ground-truth runs expected: a CSV, or a folder",
        ),
        (["--predictions", "a=out", "a=out", "--ground-truth", "truth"], "--predictions: a twice"),
        (["--name", "nobody", "--predictions", "p.csv", "--ground-truth", "truth"], "runs/nobody: no such run"),
    ],
)
def test_invalid_settings(tables: dict[str, str], arguments: list[str], words: str, printed_text: PrintedText) -> None:
    assert validation.main(arguments) == 2
    assert words in printed_text()
