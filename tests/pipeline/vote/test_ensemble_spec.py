"""Ensembles that `inference.py` builds: votes of models of the same labels, and models of some factors joined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inference

PrintedText = Callable[[], str]
FactorRuns = Any


def answers(path: str) -> np.ndarray:
    """Return the predicted classes of a table, by their index."""
    return pd.read_csv(path)["ans"].to_numpy()


def accuracy(path: str, faces: Path) -> float:
    truth = pd.read_csv(faces / "truth" / "truth.csv").set_index("ImageID")["ans"]
    table = pd.read_csv(path).set_index("ImageID")["ans"]
    return float((table == truth.loc[table.index]).mean())


def test_a_vote_of_a_joint_model_and_an_age_model(
    factor_runs: FactorRuns, faces: Path, tmp_path: Path, printed_text: PrintedText
) -> None:
    path = str(tmp_path / "both.csv")
    command = ["--name", "mask", "--model-name", "mask0_epochs6.pt", "--weighted-ensemble", "age0_epochs6.pt"]
    assert inference.main([*command, "--output", path]) == 0
    printed = printed_text()
    assert "exponents fitted on 35 validation images: mask0_epochs6 " in printed and "age0_epochs6 " in printed
    assert set(answers(path)) <= set(range(18))
    assert inference.main([*command, "--formula", "original", "--output", path]) == 0
    weighted = ["--name", "mask", "--weighted-ensemble", "mask0_epochs6=1", "age0_epochs6=0", "--output"]
    assert inference.main([*weighted, str(tmp_path / "alone.csv")]) == 0
    assert inference.main(["--name", "mask", "--model-name", "mask0_epochs6", "--output", path]) == 0
    assert answers(path).tolist() == answers(str(tmp_path / "alone.csv")).tolist()


def test_a_vote_of_two_models_of_different_factors_gives_joint_classes(
    factor_runs: FactorRuns, faces: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "two.csv")
    command = ["--name", "rest", "--model-name", "rest0_epochs6", "--weighted-ensemble", "age0_epochs6"]
    assert inference.main([*command, "--output", path]) == 0
    assert max(answers(path)) > 5 and accuracy(path, faces) > 0.3
    parts = {}
    for name in ("rest0_epochs6", "age0_epochs6"):
        assert inference.main(["--name", "rest", "--model-name", name, "--output", str(tmp_path / "part.csv")]) == 0
        parts[name] = answers(str(tmp_path / "part.csv"))
    plain = ["--name", "rest", "--weighted-ensemble", "rest0_epochs6=1", "age0_epochs6=1", "--output", path]
    assert inference.main(plain) == 0
    assert answers(path).tolist() == (3 * parts["rest0_epochs6"] + parts["age0_epochs6"]).tolist()


def test_a_vote_of_models_of_all_factors_and_one_of_a_single_factor(
    factor_runs: FactorRuns, tmp_path: Path, printed_text: PrintedText
) -> None:
    command = ["--name", "mask", "--weighted-ensemble", "mask0_epochs6", "mask1_epochs6", "age0_epochs6", "--output"]
    assert inference.main([*command, str(tmp_path / "three.csv")]) == 0
    printed = printed_text()
    assert "weights: mask0_epochs6 " in printed and "exponents fitted on" in printed


def test_soft_votes_of_scaled_logits(factor_runs: FactorRuns, tmp_path: Path) -> None:
    path = str(tmp_path / "soft.csv")
    command = ["--name", "mask", "--model-name", "mask0_epochs6.pt", "--soft-voting", "mask1_epochs6.pt"]
    assert inference.main([*command, "--output", path]) == 0
    assert inference.main([*command, "--normalise", "minmax", "--output", path]) == 0
    assert set(answers(path)) <= set(range(18))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--soft-voting", "mask0_epochs6", "age0_epochs6"],
            3,
            "age0_epochs6.safetensors: a model of other classes than",
        ),
        (["--hard-voting", "age0_epochs6", "mask0_epochs6"], 3, "joined by --weighted-ensemble"),
        (["--weighted-ensemble", "rest0_epochs6", "foreign"], 3, "foreign.safetensors: a model of other classes"),
        (["--weighted-ensemble", "age0_epochs6", "only_gender"], 3, "no model knows mask"),
        (["--model-name", "foreign"], 3, "a model of other classes than the data of run 'mask'"),
        (["--model-name", "mask0_epochs6", "--split"], 2, "--split: only for --hard-voting"),
        (["--hard-voting", "--normalise", "minmax"], 2, "--normalise is for --soft-voting"),
        (["--soft-voting", "--formula", "original"], 2, "--formula is for --weighted-ensemble"),
        (["--weighted-ensemble", "mask0_epochs6", "--formula", "original"], 2, "joins one model of all factors"),
        (["--weighted-ensemble", "mask0_epochs6=1", "age0_epochs6=1", "--formula", "original"], 2, "takes no weights"),
        (["--soft-voting", "mask0_epochs6", "--normalise", "rank"], 2, "normalise"),
    ],
)
def test_models_that_cannot_vote_together_are_named(
    factor_runs_copy: FactorRuns, arguments: list[str], code: int, words: str, printed_text: PrintedText
) -> None:
    from safetensors.torch import load_file

    from soups.checkpoints.checkpoint import write_checkpoint

    models = Path("runs/age/models")
    card, state = factor_runs_copy.card("age0_epochs6"), load_file(models / "age0_epochs6.safetensors")
    bands = ("child", "adult", "elder")
    write_checkpoint(
        models / "foreign.safetensors", state, card.model_copy(update={"classes": bands, "factors": (("age", bands),)})
    )
    two = {**state, "head.weight": state["head.weight"][:2], "head.bias": state["head.bias"][:2]}
    genders = ("male", "female")
    gender = card.model_copy(update={"classes": genders, "factors": (("gender", genders),)})
    write_checkpoint(models / "only_gender.safetensors", two, gender)
    assert inference.main(["--name", "mask", *arguments, "--output", "new.csv"]) == code
    assert words in printed_text()
    assert not Path("new.csv").exists()
