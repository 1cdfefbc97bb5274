"""Folds of a set, and cross-fitted answers on the toy run against choosing and answering by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main
from soups.cli import flags as cli
from soups.core.scores import accuracy, log_loss, softmax
from soups.ensembles.temperature import fit_temperature, scale_by_temperature
from soups.pipeline.compare.crossfit import cross_fit, divide
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.settings.commands import MainSettings
from soups.pipeline.soup.make import SoupRequest

ToyRun = Any


@pytest.fixture
def context(toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    """The toy run, opened as a command does."""
    monkeypatch.chdir(toy_run.folder)
    parsed: cli.ParsedSettings[MainSettings] = cli.ParsedSettings(MainSettings(), frozenset())
    return open_context(parsed.settings, parsed.names)


@pytest.mark.parametrize(
    ("groups", "whole"),
    [
        (np.arange(31), True),  # Each image is its own group.
        (np.arange(31) // 4, True),
        (np.full(31, "all"), False),
        (np.array(["zero", "one", "two"])[np.arange(31) % 3], False),  # Each group holds a class of its own.
    ],
    ids=["single images", "groups", "one group", "groups that are classes"],
)
def test_folds_by_group_where_other_folds_have_the_classes(groups: np.ndarray, whole: bool) -> None:
    labels = np.arange(31) % 3
    folds, kept = divide(labels, groups)
    assert kept is whole and set(folds) == set(range(5))
    assert not whole or all(len(set(folds[groups == group])) == 1 for group in groups)
    for label in range(3):
        assert np.bincount(folds[labels == label], minlength=5).max() < (labels == label).sum()


def table_of(context: RunContext, path: Path) -> np.ndarray:
    return context.probabilities(path, ["val"])["val"]


def answers_of(table: np.ndarray, labels: np.ndarray, folds: np.ndarray, fold: int) -> np.ndarray:
    """Answers for a fold by a model's table, at the temperature of the other folds."""
    rows, others = folds != fold, folds == fold
    scaled = scale_by_temperature(table, fit_temperature(np.log(table[rows]), labels[rows]))
    parts = scaled.argmax(axis=1), scaled.max(axis=1), scaled[np.arange(len(labels)), labels]
    return np.stack(parts, axis=1)[others]


def test_the_best_single_model_of_the_other_folds_answers(context: RunContext) -> None:
    labels = context.labels("val")
    folds, whole = divide(labels, context.groups("val"))
    assert whole
    tables = {name: table_of(context, path) for name, path in pool_paths(context.run).items()}
    found = cross_fit(context, [])
    assert found is not None and set(found.answers) == {"best_single", "soft_vote", "ensemble_selection"}
    assert np.array_equal(found.folds, folds) and np.array_equal(found.groups, context.groups("val"))
    mean = sum(tables.values()) / len(tables)
    for fold in range(folds.max() + 1):
        rows = folds != fold

        def merit(name: str, rows: np.ndarray = rows) -> tuple[float, float, str]:
            return -accuracy(tables[name][rows], labels[rows]), log_loss(tables[name][rows], labels[rows]), name

        for name, table in (("best_single", tables[min(tables, key=merit)]), ("soft_vote", mean)):
            expected = answers_of(table, labels, folds, fold)
            np.testing.assert_allclose(found.answers[name][folds == fold], expected, atol=1e-9)


def test_soups_of_the_other_folds_answer(context: RunContext, toy_run: ToyRun) -> None:
    """The soups are made again by hand from what the log says was chosen."""
    import torch

    from soups.checkpoints.checkpoint import read_state
    from soups.evaluation.logits import compute_logits
    from soups.models.load import load_classifier

    found = cross_fit(context, [SoupRequest("greedy", {"accept": "better"}), SoupRequest("uniform")])
    assert found is not None
    line = next(line for line in reversed(toy_run.log("crossfit.jsonl")) if "uniform_soup" in line["scores"])
    assert set(found.answers) == set(line["scores"]) and line["whole_groups"] is True
    labels, folds, paths = context.labels("val"), found.folds, pool_paths(context.run)
    assert line["images"] == np.bincount(folds).tolist()
    uniform = table_of(context, context.run.soup_path("uniform"))
    for fold in range(folds.max() + 1):
        states = [read_state(paths[name]) for name in line["chosen"]["greedy_soup"][fold]]
        classifier, card = load_classifier(next(iter(paths.values())))
        mean = {key: torch.stack([state[key].double() for state in states]).mean(dim=0) for key in states[0]}
        classifier.load_state_dict({key: value.to(states[0][key].dtype) for key, value in mean.items()})
        images = context.open_set("val", card).images
        soup = softmax(compute_logits(classifier, images, card.preprocessing, context.runtime, 16))
        both = (soup + table_of(context, paths[line["chosen"]["best_single"][fold]])) / 2
        for name, table in (("greedy_soup", soup), ("greedy_soup_and_best_single", both), ("uniform_soup", uniform)):
            expected = answers_of(table, labels, folds, fold)
            np.testing.assert_allclose(found.answers[name][folds == fold], expected, atol=1e-5)
    stored = cross_fit(context, [SoupRequest("greedy", {"accept": "better"}), SoupRequest("uniform")])
    assert stored is not None
    for name, answers in found.answers.items():
        assert line["scores"][name]["accuracy"] == pytest.approx((answers[:, 0] == labels).mean())
        assert np.array_equal(stored.answers[name], answers)


def test_logged_scores_are_not_measured_again(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--report"]) == 0
    first = capsys.readouterr()
    before = toy_run_copy.contents()
    assert main.main(["--report"]) == 0
    second = capsys.readouterr()
    assert second.out == first.out and "cross-fitting" not in second.err
    assert toy_run_copy.contents() == before
    logged = toy_run_copy.log("crossfit.jsonl")
    for answers in (toy_run_copy.run / "logits").glob("crossfit_*.npy"):
        answers.unlink()
    assert main.main(["--report"]) == 0
    third = capsys.readouterr()
    assert third.out == first.out and third.err.count("cross-fitting: greedy soup by") == 2
    assert toy_run_copy.log("crossfit.jsonl") == logged


def test_without_validation_images_nothing_is_cross_fitted(toy_run_copy: ToyRun) -> None:
    flags = ["--name", "flat", "--data-location", str(toy_run_copy.data), "--model", f"local-dir:{toy_run_copy.clip}"]
    options = ["--val-ratio", "None", "--precision", "fp32", "--threads", "1", "--epochs", "1"]
    import finetune

    assert finetune.main([*flags, *options]) == 0
    assert main.main(["--greedy-soup", "--report"]) == 0
    assert not (toy_run_copy.folder / "runs" / "flat" / "logs" / "crossfit.jsonl").exists()
