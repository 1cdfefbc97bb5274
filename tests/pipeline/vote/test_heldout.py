"""The validation images that no model of an ensemble was trained on."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import inference
from soups.checkpoints.checkpoint import write_checkpoint
from soups.pipeline.run.run import warn_if_validation_flatters
from soups.pipeline.vote.heldout import heldout_rows
from tests.pipeline.small_run import CARD, make_context, make_run

PrintedText = Callable[[], str]
FactorRuns = Any


def test_models_of_the_run_may_use_all_validation_images(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rows = heldout_rows(make_context(run), list(run.finetunes()))
    assert rows is not None and rows.tolist() == [True, True]


def test_without_validation_images_nothing_is_fitted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path)
    run = dataclasses.replace(run, table=run.samples[run.samples["split"] == "train"])
    assert heldout_rows(make_context(run), list(run.finetunes())) is None
    assert "run p has no validation images: nothing is fitted on them" in caplog.text


@pytest.mark.parametrize("place", ["elsewhere", "p/models"])
def test_a_model_of_unknown_training_images_leaves_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    run, copied = make_run(tmp_path), tmp_path / place / "p7_epochs2.safetensors"
    own = {"kind": "fine-tune", "training": {"index": 7, "epochs": 2}, "split": "another"}
    write_checkpoint(copied, {"w": torch.ones(3)}, CARD.model_copy(update=own))
    assert heldout_rows(make_context(run), [copied]) is None
    assert "its training images are unknown" in caplog.text
    assert copied not in run.finetunes()
    warn_if_validation_flatters(run)
    assert ("was trained on another split than run p" in caplog.text) == (place == "p/models")


def test_weights_are_fitted_on_images_that_no_model_was_trained_on(
    factor_runs_copy: FactorRuns, printed_text: PrintedText
) -> None:
    assert (
        factor_runs_copy.finetune(
            "other", "--target", "age", "--split-seed", "7", "--epochs", "2", "--i", "0", new=True
        )
        == 0
    )
    command = ["--name", "mask", "--model-name", "mask0_epochs6", "--weighted-ensemble", "other0_epochs2"]
    printed_text()
    assert inference.main(command) == 0
    printed = printed_text()
    assert "other0_epochs2.safetensors was trained on " in printed and "which are left out" in printed
    shutil.rmtree("runs/other/logs")
    Path("runs/other/samples.csv").unlink()
    assert inference.main(command) == 0
    printed = printed_text()
    assert "its training images are unknown" in printed and "every group of models has the exponent 1" in printed
