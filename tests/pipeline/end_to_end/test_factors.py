"""Labels made of factors, through the commands: targets, corrections, oversampling, votes of models of some factors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import finetune
import inference
import main

PrintedText = Callable[[], str]
FactorRuns = Any


def answers(path: str) -> np.ndarray:
    return pd.read_csv(path)["ans"].to_numpy()


def right(path: str, faces: Path) -> float:
    truth = pd.read_csv(faces / "truth" / "truth.csv").set_index("ImageID")["ans"]
    table = pd.read_csv(path).set_index("ImageID")["ans"]
    return float((table == truth.loc[table.index]).mean())


# Runs and cards


def test_classes_head_and_card_are_those_of_the_target(factor_runs: FactorRuns) -> None:
    joint, age, rest = (
        factor_runs.card("mask0_epochs6"),
        factor_runs.card("age0_epochs6"),
        factor_runs.card("rest0_epochs6"),
    )
    assert len(joint.classes) == 18 and joint.classes[14] == "normal/male/old"
    assert age.classes == ("young", "middle", "old") and age.factors == (("age", age.classes),)
    assert rest.classes[:2] == ("mask/male", "mask/female") and [name for name, _ in rest.factors] == ["mask", "gender"]
    assert joint.split == age.split == rest.split
    samples = pd.read_csv("runs/age/samples.csv", dtype=str, keep_default_na=False)
    assert list(samples.columns) == ["image", "label", "group", "split", "mask", "gender", "age"]
    known = samples[samples["split"] != "test"]
    assert (known["label"] == known["age"]).all() and (samples.groupby("group")["split"].nunique() == 1).all()


def test_another_spelling_of_the_same_data_gives_the_same_run(
    factor_runs_copy: FactorRuns, printed_text: PrintedText
) -> None:
    for place in ("", "train", "train/images"):
        assert (
            finetune.main(["--name", "age", "--data-location", str(factor_runs_copy.data / place), "--i", "0", *SAME])
            == 0
        )
    assert finetune.main(["--name", "age", "--age-bands", "29", "59", "--layout", "profile", "--i", "0", *SAME]) == 0
    printed_text()
    assert finetune.main(["--name", "age", "--age-bands", "29", "57", "--i", "0"]) == 2
    assert "--age-bands: run 'age' was made with another value" in printed_text()
    assert finetune.main(["--name", "age", "--target", "gender", "--i", "0"]) == 2
    assert "--target: run 'age' was made with another value recorded: age given: gender" in printed_text()


SAME = [*("--epochs", "6", "--lr", "3e-3", "--batch-size", "16", "--precision", "fp32", "--validate-every", "0")]


def test_old_aug_and_oversampling_are_in_the_card(factor_runs_copy: FactorRuns, printed_text: PrintedText) -> None:
    before = Path("runs/mask/samples.csv").read_bytes()
    assert factor_runs_copy.finetune("mask", "--old-aug", "True", "--epochs", "1") == 0
    card = factor_runs_copy.card("mask2_epochs1")
    assert (card.training["oversample"], card.training["oversample_augment"]) == (["age=old=2"], "flip")
    assert "old_aug" not in card.training
    same = ["--oversample", "age=old=2", "--oversample-augment", "flip", "--epochs", "1"]
    assert factor_runs_copy.finetune("mask", *same) == 0
    assert not list(Path("runs/mask/models").glob("mask3*"))  # The same work in other words.
    assert factor_runs_copy.finetune("mask", "--sampler", "balanced", "--class-weights", "auto", "--epochs", "1") == 0
    assert factor_runs_copy.card("mask3_epochs1").training["class_weights"] == ["auto"]
    assert Path("runs/mask/samples.csv").read_bytes() == before
    printed_text()
    assert factor_runs_copy.finetune("mask", "--oversample", "elder=2", "--i", "9") == 2
    assert "unknown class or level in --oversample 'elder'" in printed_text()


def test_a_custom_crop_is_in_the_card_and_cannot_be_mixed_with_others(
    factor_runs_copy: FactorRuns, printed_text: PrintedText
) -> None:
    assert factor_runs_copy.finetune("mask", "--augmentation", "custom", "--epochs", "1", "--i", "5") == 0
    assert factor_runs_copy.card("mask5_epochs1").preprocessing.cut == (320, 256)
    assert factor_runs_copy.card("mask0_epochs6").preprocessing.cut is None
    assert inference.main(["--model-name", "mask5_epochs1", "--output", "custom.csv"]) == 0
    printed_text()
    assert main.main(["--uniform-soup", "--name", "mask"]) == 3
    assert "mask5_epochs1: another preprocessing than mask0_epochs6" in printed_text()


def test_corrections_are_in_the_run_s_samples_table(factor_runs_copy: FactorRuns, printed_text: PrintedText) -> None:
    Path("fix.csv").write_text("match,factor,from,to\n000003,gender,*,other\n000004,mask,normal,mask\n")
    assert factor_runs_copy.finetune("fixed", "--relabel", "fix.csv", "--epochs", "1", new=True) == 0
    samples = pd.read_csv("runs/fixed/samples.csv", dtype=str, keep_default_na=False)
    assert (samples["corrected_by"] == "2").sum() == 7 and (samples["corrected_by"] == "3").sum() == 1
    assert set(samples.loc[samples["corrected_by"] == "2", "gender"]) == {"male"}
    assert factor_runs_copy.card("fixed0_epochs1").data != factor_runs_copy.card("mask0_epochs6").data
    Path("fix.csv").write_text("match,factor,from,to\n999999,gender,*,other\n")
    assert factor_runs_copy.finetune("wrong", "--relabel", "fix.csv", "--epochs", "1", new=True) == 3
    assert "fix.csv, row 2 (999999, gender: * → other): matches no image" in printed_text()
    assert not Path("runs/wrong").exists()


# Predictions


def test_the_template_is_filled_with_class_indices(factor_runs: FactorRuns, faces: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "joint.csv")
    assert inference.main(["--name", "mask", "--model-name", "mask0_epochs6.pt", "--output", path]) == 0
    assert set(answers(path)) <= set(range(18)) and right(path, faces) > 0.3
    assert pd.read_csv(path)["ImageID"].tolist() == pd.read_csv(faces / "eval" / "info.csv")["ImageID"].tolist()


def test_a_factor_model_predicts_its_own_classes(factor_runs: FactorRuns, tmp_path: Path) -> None:
    path = tmp_path / "age.csv"
    for run in ("mask", "age"):
        assert inference.main(["--name", run, "--model-name", "age0_epochs6", "--output", str(path)]) == 0
        assert set(answers(str(path))) <= {0, 1, 2}


def test_votes_on_factors_of_models_and_of_tables(factor_runs: FactorRuns, tmp_path: Path) -> None:
    models, tables = ["mask0_epochs6", "mask1_epochs6", "mask_start"], []
    for name in models:
        tables.append(str(tmp_path / f"{name}.csv"))
        assert inference.main(["--name", "mask", "--model-name", name, "--output", tables[-1]]) == 0
    outcomes = {}
    for kind, members in (("models", models), ("tables", tables)):
        for split in ([], ["--split"]):
            path = str(tmp_path / "vote.csv")
            assert inference.main(["--name", "mask", "--hard-voting", *members, *split, "--output", path]) == 0
            outcomes[kind, bool(split)] = answers(path)
    given = np.stack([answers(path) for path in tables])
    levels = np.stack([given // 6, given // 3 % 2, given % 3])  # mask·6 + gender·3 + age
    decided = 0
    for image in range(30):
        majority = [np.bincount(levels[f, :, image]) for f in range(3)]
        if all((counts == counts.max()).sum() == 1 for counts in majority):
            decided += 1
            mask, gender, age = (int(counts.argmax()) for counts in majority)
            assert outcomes["models", True][image] == outcomes["tables", True][image] == mask * 6 + gender * 3 + age
    assert decided > 20
