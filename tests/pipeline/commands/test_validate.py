"""The command `validation` with a model: on its own run's split."""

from typing import Any

import pandas as pd
import pytest

import validation

FactorRuns = Any


def test_a_model_is_validated_on_its_own_run_s_split(
    factor_runs: FactorRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (factor_runs.folder / "runs" / "latest").read_text() == "mask\n"
    outputs = []
    for seeds in ([], ["--split-seed", "99"], ["--random-seed", "7"]):
        capsys.readouterr()
        assert validation.main(["--model-name", "age0_epochs6", *seeds]) == 0
        captured = capsys.readouterr()
        outputs.append(captured.out)
        assert ("seeds have no effect here" in captured.err) == bool(seeds)
    assert outputs[0] == outputs[1] == outputs[2]
    assert "runs/age/figures/age0_epochs6_confusion.png" in outputs[0]
    assert validation.main(["--model-name", "runs/age/models/age0_epochs6.safetensors"]) == 0
    assert "runs/age/figures" in capsys.readouterr().out


def test_every_factor_has_its_scores_and_its_picture(
    factor_runs: FactorRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validation.main(["--name", "mask", "--model-name", "mask0_epochs6"]) == 0
    text = capsys.readouterr().out
    for words in ("validation images right", "— gender —", "macro-F1 % [95%]", "truth → prediction"):
        assert words in text
    figures = factor_runs.folder / "runs" / "mask" / "figures"
    for name in ("confusion", "confusion_mask", "confusion_gender", "confusion_age", "wrong"):
        assert (figures / f"mask0_epochs6_{name}.png").stat().st_size > 1000
    classes = pd.read_csv(factor_runs.folder / "runs" / "mask" / "output" / "mask0_epochs6_classes.csv")
    assert set(classes["of"]) == {"class", "mask", "gender", "age"} and len(classes) == 18 + 3 + 2 + 3
