"""Halves of a set, and cross-fitted scores on the toy run against choosing and scoring by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main
from soups.cli import flags as cli
from soups.core.scores import accuracy, log_loss, softmax
from soups.pipeline.compare.crossfit import cross_fitted_scores, split_in_halves
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


def test_halves_keep_groups_whole_and_classes_in_proportion() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 20, 600).astype(str)
    labels = rng.integers(0, 3, 600)
    second, whole = split_in_halves(labels, groups)
    assert whole and 250 <= second.sum() <= 350
    assert not set(groups[second]) & set(groups[~second]) and len(set(groups[second])) == 10
    for label in range(3):
        assert second[labels == label].mean() == pytest.approx(second.mean(), abs=0.05)
    assert np.array_equal(split_in_halves(labels, groups)[0], second)
    assert not np.array_equal(split_in_halves(labels, groups, seed=1)[0], second)


@pytest.mark.parametrize(
    ("groups", "whole"),
    [
        (np.arange(31).astype(str), True),  # Each image is its own group.
        (np.full(31, "all"), False),
        (np.array(["zero", "one", "two"])[np.arange(31) % 3], False),  # Each group holds a class of its own.
    ],
    ids=["single images", "one group", "groups that are classes"],
)
def test_halves_by_image(groups: np.ndarray, whole: bool) -> None:
    labels = np.arange(31) % 3
    second, kept = split_in_halves(labels, groups)
    assert kept is whole and second.sum() == 15
    for label in range(3):
        assert abs(int(second[labels == label].sum()) - int((~second)[labels == label].sum())) <= 1


def table_of(context: RunContext, path: Path) -> np.ndarray:
    return context.probabilities(path, ["val"])["val"]


def test_the_best_single_model_of_each_half_is_scored_on_the_other(context: RunContext) -> None:
    labels = context.labels("val")
    second, whole = split_in_halves(labels, context.groups("val"))
    assert whole
    tables = {name: table_of(context, path) for name, path in pool_paths(context.run).items()}
    right = 0
    for choosing, scoring in ((~second, second), (second, ~second)):

        def merit(name: str, rows: np.ndarray = choosing) -> tuple[float, float, str]:
            return -accuracy(tables[name][rows], labels[rows]), log_loss(tables[name][rows], labels[rows]), name

        right += int((tables[min(tables, key=merit)].argmax(axis=1) == labels)[scoring].sum())
    assert cross_fitted_scores(context, [])["best_single"] == pytest.approx(right / len(labels))


def test_the_greedy_soup_of_each_half_is_scored_on_the_other(context: RunContext, toy_run: ToyRun) -> None:
    """The soups are made again by hand from what the log says was chosen."""
    import torch

    from soups.checkpoints.checkpoint import read_state
    from soups.evaluation.logits import compute_logits
    from soups.models.load import load_classifier

    found = cross_fitted_scores(context, [SoupRequest("greedy")])
    assert set(found) == {"best_single", "ensemble_selection", "greedy_soup", "greedy_soup_and_best_single"}
    line = next(line for line in toy_run.log("crossfit.jsonl") if "greedy_soup" in line["scores"])
    labels = context.labels("val")
    second, _ = split_in_halves(labels, context.groups("val"))
    assert line["images"] == [int((~second).sum()), int(second.sum())] and line["whole_groups"] is True
    paths, right, voted = pool_paths(context.run), 0, 0
    for number, scoring in ((0, second), (1, ~second)):
        states = [read_state(paths[name]) for name in line["chosen"]["greedy_soup"][number]]
        classifier, card = load_classifier(next(iter(paths.values())))
        mean = {key: torch.stack([state[key].double() for state in states]).mean(dim=0) for key in states[0]}
        classifier.load_state_dict({key: value.to(states[0][key].dtype) for key, value in mean.items()})
        images = context.open_set("val", card).images
        table = softmax(compute_logits(classifier, images, card.preprocessing, context.runtime, 16))
        single = table_of(context, paths[line["chosen"]["best_single"][number]])
        right += int((table.argmax(axis=1) == labels)[scoring].sum())
        voted += int(((table + single).argmax(axis=1) == labels)[scoring].sum())
    assert found["greedy_soup"] == pytest.approx(right / len(labels))
    assert found["greedy_soup_and_best_single"] == pytest.approx(voted / len(labels))


def test_logged_scores_are_not_measured_again(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--report"]) == 0
    first = capsys.readouterr()
    before = toy_run_copy.contents()
    assert main.main(["--report"]) == 0
    second = capsys.readouterr()
    assert second.out == first.out and "cross-fitting" not in second.err
    assert toy_run_copy.contents() == before
    (toy_run_copy.run / "logs" / "crossfit.jsonl").unlink()
    assert main.main(["--report"]) == 0
    third = capsys.readouterr()
    assert third.out == first.out and third.err.count("cross-fitting: greedy soup by") == 2


def test_without_validation_images_nothing_is_cross_fitted(toy_run_copy: ToyRun) -> None:
    flags = ["--name", "flat", "--data-location", str(toy_run_copy.data), "--model", f"local-dir:{toy_run_copy.clip}"]
    options = ["--val-ratio", "None", "--precision", "fp32", "--threads", "1", "--epochs", "1"]
    import finetune

    assert finetune.main([*flags, *options]) == 0
    assert main.main(["--greedy-soup", "--report"]) == 0
    assert not (toy_run_copy.folder / "runs" / "flat" / "logs" / "crossfit.jsonl").exists()
