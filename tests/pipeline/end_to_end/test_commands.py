"""The commands of training.sh on toy images: the files they write, and that a second run changes none."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

import finetune
import inference
import main
import soups
from soups.checkpoints.card import read_card

ToyRun = Any
PrintedText = Callable[[], str]


# What the run holds


def test_a_run_has_the_files_that_the_design_page_lists(toy_run: ToyRun) -> None:
    models = sorted(path.name for path in (toy_run.run / "models").glob("*.safetensors"))
    assert len([name for name in models if "_epochs" in name]) == 3
    assert {"toys_start.safetensors", "toys_uniform_soup.safetensors", "toys_greedy_soup.safetensors"} < set(models)
    for name in (
        "settings.yaml",
        "samples.csv",
        "figures/soups.png",
        "output/comparison.csv",
        "logs/training/toys0.jsonl",
    ):
        assert (toy_run.run / name).stat().st_size > 0
    assert (toy_run.folder / "runs" / "latest").read_text() == "toys\n"


def test_no_group_is_in_both_training_and_validation(toy_run: ToyRun) -> None:
    samples = pd.read_csv(toy_run.run / "samples.csv", dtype=str)
    sides = samples[samples["split"].isin(["train", "val"])].groupby("group")["split"].nunique()
    assert set(samples["group"]) == {f"p{number}" for number in range(6)}
    assert (sides == 1).all()


def test_results_have_accuracies_at_the_top_and_all_metrics_below(toy_run: ToyRun) -> None:
    results = toy_run.log("individual_results.jsonl")
    assert [line["model_name"] for line in results][-1] == "toys_start"
    for line in results:
        for name in ("val", "test", "noisy", "dark"):
            assert 0 <= line[name] <= 1
            assert set(line["metrics"][name]) == {
                "accuracy",
                "balanced_accuracy",
                "macro_f1",
                "log_loss",
                "calibration_error",
            }
            assert line[name] == line["metrics"][name]["accuracy"]
    assert {line["model_name"] for line in toy_run.log("soup_results.jsonl")} - {"greedy_soup_and_best_single"} == {
        "toys_uniform_soup",
        "toys_greedy_soup",
        "soft_vote",
        "hard_vote",
        "ensemble_selection",
    }


def test_the_greedy_log_has_every_decision(toy_run: ToyRun) -> None:
    trace = toy_run.log("greedy_soup.jsonl")
    assert len(trace) == 3
    assert trace[0]["accepted"] is True
    assert all({"candidate", "score", "errors", "images", "why"} <= line.keys() for line in trace)


def test_a_soup_s_card_has_what_a_rebuild_needs(toy_run: ToyRun) -> None:
    path = toy_run.run / "models" / "toys_uniform_soup.safetensors"
    card = read_card(path)
    assert card is not None and card.soup is not None
    files = [toy_run.run / "models" / f"{part.name}.safetensors" for part in card.soup.ingredients]
    again = soups.average(files)
    again.save(toy_run.folder / "again.safetensors")
    loaded = [
        soups.load(file, device="cpu").classifier.state_dict() for file in (path, toy_run.folder / "again.safetensors")
    ]
    assert all(bool((loaded[0][key] == loaded[1][key]).all()) for key in loaded[0])


def test_the_greedy_soup_s_logged_score_is_the_judge_s(toy_run: ToyRun) -> None:
    card = read_card(toy_run.run / "models" / "toys_greedy_soup.safetensors")
    assert card is not None
    logged = next(line for line in toy_run.log("soup_results.jsonl") if line["model_name"] == "toys_greedy_soup")
    assert card.scores["val"]["accuracy"] == logged["val"]


def test_other_recipes_are_made_scored_and_compared(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["pruned", "top_k", "wise_ft", "model_stock", "task_arithmetic", "ties", "dare"]
    assert main.main(["--soup", *names, "--report"]) == 0
    table = capsys.readouterr().out
    for name in names:
        assert f"{name} soup" in table
        card = read_card(toy_run_copy.run / "models" / f"toys_{name}_soup.safetensors")
        assert card is not None and card.soup is not None and card.soup.recipe == name
    wise_ft = read_card(toy_run_copy.run / "models" / "toys_wise_ft_soup.safetensors")
    assert wise_ft is not None and wise_ft.soup is not None
    assert 0 <= wise_ft.soup.options["alpha"] <= 1
    before = toy_run_copy.contents()
    assert main.main(["--soup", *names]) == 0
    assert toy_run_copy.contents() == before
    made = [f"toys_{name}_soup" for name in (*names, "uniform", "greedy")]
    capsys.readouterr()
    assert main.main(["--rebuild", *made]) == 0
    assert capsys.readouterr().out.count(": identical") == len(made)
    assert toy_run_copy.contents() == before


def test_a_soup_of_an_earlier_pool_is_reported_as_such(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "made of an earlier pool, make it again"
    assert main.main(["--report"]) == 0
    assert words not in capsys.readouterr().out
    assert toy_run_copy.finetune("--i", "70", "--epochs", "1") == 0
    assert main.main(["--uniform-soup", "--report"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if words in line]
    assert len(notes) == 1 and notes[0].startswith("greedy soup: ")


# Again


def test_running_a_command_again_changes_no_file(toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy_run.folder)
    commands = [
        lambda: toy_run.finetune(
            "--i", "0-2", "--hparams", "random", "--lr-range", "5e-4", "2e-3", "--epochs-range", "2", "3"
        ),
        lambda: main.main(["--eval-individual-models", "--uniform-soup", "--greedy-soup", "--report"]),
        lambda: inference.main(["--soft-voting"]),
        lambda: inference.main(["--hard-voting"]),
    ]
    for command in commands:
        assert command() == 0
    before = toy_run.contents()
    for command in commands:
        assert command() == 0
    assert toy_run.contents() == before


def test_workers_and_jobs_do_not_change_the_models(toy_run_copy: ToyRun) -> None:
    models = toy_run_copy.run / "models"
    assert toy_run_copy.finetune("--i", "7", "--aug", "rand-m5-n1", "--mix", "0.3") == 0
    first = (models / "toys7_epochs2.safetensors").read_bytes()
    (models / "toys7_epochs2.safetensors").unlink()
    assert toy_run_copy.finetune("--i", "7", "--aug", "rand-m5-n1", "--mix", "0.3", "--workers", "2") == 0
    assert (models / "toys7_epochs2.safetensors").read_bytes() == first
    (models / "toys7_epochs2.safetensors").unlink()
    assert toy_run_copy.finetune("--i", "7,8", "--aug", "rand-m5-n1", "--mix", "0.3", "--jobs", "auto") == 0
    assert (models / "toys7_epochs2.safetensors").read_bytes() == first
    assert (models / "toys8_epochs2.safetensors").read_bytes() != first


def test_without_i_the_same_settings_give_the_same_index_and_others_the_next(toy_run_copy: ToyRun) -> None:
    models = toy_run_copy.run / "models"
    before = set(models.glob("*_epochs*"))
    assert toy_run_copy.finetune("--random-seed", "5") == 0
    added = set(models.glob("*_epochs*")) - before
    assert {path.name for path in added} == {"toys3_epochs2.safetensors"}
    assert toy_run_copy.finetune("--random-seed", "5") == 0
    assert set(models.glob("*_epochs*")) == before | added
    assert toy_run_copy.finetune("--random-seed", "6") == 0
    assert (models / "toys4_epochs2.safetensors").exists()


def test_other_settings_under_the_same_name_are_refused_or_replace(
    toy_run_copy: ToyRun, printed_text: PrintedText
) -> None:
    models = toy_run_copy.run / "models"
    assert toy_run_copy.finetune("--i", "9") == 0
    assert toy_run_copy.finetune("--i", "9", "--lr", "2e-3") == 2
    error = printed_text()
    assert "toys9_epochs2.safetensors: was trained with other settings" in error
    assert "recorded: --lr 0.001 given: --lr 0.002" in error and "--overwrite" in error
    assert toy_run_copy.finetune("--i", "9", "--epochs", "3", "--overwrite") == 0
    assert not (models / "toys9_epochs2.safetensors").exists()
    assert (models / "toys9_epochs3.safetensors").exists()


# Training in other ways


def test_all_fine_tunes_begin_at_the_common_start(toy_run_copy: ToyRun) -> None:
    assert toy_run_copy.finetune("--i", "20", "--freeze-backbone") == 0
    states = [
        soups.load(toy_run_copy.run / "models" / name, device="cpu").classifier.state_dict()
        for name in ("toys_start.safetensors", "toys20_epochs2.safetensors")
    ]
    moved = {key for key in states[0] if not bool((states[0][key] == states[1][key]).all())}
    assert moved and all(key.startswith("head.") for key in moved)


def test_start_from_a_checkpoint_hyperparameters_of_a_file_and_linear_probing(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str], printed_text: PrintedText
) -> None:
    starts = toy_run_copy.folder / "starts"
    starts.mkdir()
    shutil.copy(toy_run_copy.run / "models" / "toys_start.safetensors", starts / "model_30.safetensors")
    entries = {
        "model_0": {"info": "LP initialization"},
        "model_30": {"aug": None, "wd": 0.01, "lr": 1e-3, "mix": 0.0, "smoothing": 0.1, "epochs": 1},
    }
    (toy_run_copy.folder / "hparams.json").write_text(json.dumps(entries))
    arguments = ["--hparams", "hparams.json", "--start-from", "starts", "--lp-epochs", "1"]
    assert toy_run_copy.finetune("--i", "30", *arguments) == 0
    card = read_card(toy_run_copy.run / "models" / "toys30_epochs1.safetensors")
    assert card is not None and (card.training["smoothing"], card.training["wd"]) == (0.1, 0.01)
    phases = [line["phase"] for line in toy_run_copy.log("training/toys30.jsonl")]
    assert phases == ["head", "all"]
    assert toy_run_copy.finetune("--i", "0", "--hparams", "hparams.json", "--name", "toys") == 0
    assert "is the start itself" in capsys.readouterr().err
    assert toy_run_copy.finetune("--i", "31", *arguments) == 3
    assert "no entry model_31" in printed_text()


def test_oversampling_changes_only_training(toy_run_copy: ToyRun) -> None:
    before = (toy_run_copy.run / "samples.csv").read_bytes()
    assert toy_run_copy.finetune("--i", "40", "--oversample", "red=3") == 0
    assert (toy_run_copy.run / "samples.csv").read_bytes() == before
    card = read_card(toy_run_copy.run / "models" / "toys40_epochs2.safetensors")
    assert card is not None and card.training["oversample"] == ["red=3"]


def test_if_one_of_several_fails_the_others_are_kept(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    entries = {f"model_{i}": {"lr": lr, "epochs": 1} for i, lr in [(50, 1e-3), (51, 1e30)]}
    (toy_run_copy.folder / "hparams.json").write_text(json.dumps(entries))
    assert toy_run_copy.finetune("--i", "50,51", "--hparams", "hparams.json") == 5
    error = printed_text()
    assert "1 of 2 fine-tunes failed" in error and "lower the learning rate in hparams.json" in error
    assert error.count("toys51: ") == 1 and "toys51: lr 1e+30: the loss became" in error
    assert (toy_run_copy.run / "models" / "toys50_epochs1.safetensors").exists()
    assert not (toy_run_copy.run / "models" / "toys51_epochs1.safetensors").exists()


def test_missing_validation_images_are_reported_once(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    flags = ["--name", "flat", "--data-location", str(toy_run_copy.data), "--model", f"local-dir:{toy_run_copy.clip}"]
    options = ["--val-ratio", "None", "--precision", "fp32", "--threads", "1", "--epochs", "1"]
    assert finetune.main([*flags, *options]) == 0
    assert printed_text().count("which flatters") == 1
    assert main.main(["--uniform-soup", "--report"]) == 0
    assert printed_text().count("which flatters") == 1
