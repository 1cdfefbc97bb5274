"""Logits and verdicts against the obvious: one image at a time, in plain torch."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import open_images
from soups.data.images.geometry import evaluation_geometry
from soups.evaluation.judge import ValidationJudge
from soups.evaluation.logits import EvaluationSet
from soups.models.classifier import Classifier
from soups.recipes.shared.acceptance import AtLeast
from soups.recipes.shared.pool import Accept
from soups.runtime.devices import Runtime

PREPROCESSING = Preprocessing(size=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
RUNTIME = Runtime(precision="fp32", threads=1)


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def classifier() -> Classifier:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Dropout(0.5))
    return Classifier(backbone, nn.Linear(5, 3), normalise_features=True)


@pytest.fixture
def validation(tmp_path: Path) -> EvaluationSet:
    from PIL import Image

    generator = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{number}.png" for number in range(11))
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(path)
    images = open_images(paths, evaluation_geometry(PREPROCESSING), "off", tmp_path)
    return EvaluationSet("val", images, generator.integers(0, 3, 11), np.array(["g"] * 11), paths)


def slow_logits(model: nn.Module, validation: EvaluationSet) -> np.ndarray:
    from PIL import Image

    rows = []
    for path in validation.paths:
        pixels = torch.from_numpy(np.array(Image.open(path))).double() / 255
        pixels = (pixels - torch.tensor(PREPROCESSING.mean).double()) / torch.tensor(PREPROCESSING.std).double()
        rows.append(model.double().eval()(pixels.permute(2, 0, 1)[None])[0].detach().numpy())
    model.float()
    return np.array(rows)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_verdicts_are_higher_for_better_weights(validation: EvaluationSet, metric: str) -> None:
    judge = ValidationJudge(classifier(), validation, PREPROCESSING, metric, RUNTIME, batch_size=4)
    verdicts = []
    for _ in range(6):
        model = classifier()
        logits = slow_logits(model, validation)
        expected_errors = int((logits.argmax(axis=1) != validation.labels).sum())
        verdict = judge(model.state_dict())
        assert (verdict.errors, verdict.images, verdict.complete) == (expected_errors, 11, True)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -log_probabilities[np.arange(11), validation.labels].mean()
        expected = 1 - expected_errors / 11 if metric == "accuracy" else -loss
        assert verdict.score == pytest.approx(expected, abs=1e-5)
        verdicts.append(verdict)
    assert len({verdict.score for verdict in verdicts}) > 1


def test_unlabelled_images_are_rejected(validation: EvaluationSet) -> None:
    bare = EvaluationSet("val", validation.images, np.full(11, -1), validation.groups, validation.paths)
    assert not bare.labelled
    with pytest.raises(DataError, match="images without labels"):
        ValidationJudge(classifier(), bare, PREPROCESSING, "accuracy", RUNTIME, 4)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "calibration_error"])
@pytest.mark.parametrize("goal", [AtLeast, partial(AtLeast, strict=True)])
def test_stopping_never_changes_a_decision(
    validation: EvaluationSet, metric: str, goal: Callable[[float], Accept]
) -> None:
    full = ValidationJudge(classifier(), validation, PREPROCESSING, metric, RUNTIME, batch_size=4)
    stopping = ValidationJudge(classifier(), validation, PREPROCESSING, metric, RUNTIME, batch_size=4)
    states = [classifier().state_dict() for _ in range(20)]
    for number, state in enumerate(states):
        state["head.weight"] *= number  # From sure of nothing to sure of everything: losses far apart.
    incumbents = sorted(full(state).score for state in states)[7::4]
    seen = []
    for state in states:
        expected = full(state)
        for incumbent in incumbents:
            accept = goal(incumbent)
            verdict = stopping(state, accept)
            assert (verdict.complete and accept.allows(verdict)) == accept.allows(expected)
            if verdict.complete:
                assert verdict == expected and verdict.outcome is not None
                assert np.array_equal(verdict.outcome, expected.outcome)
            else:
                assert verdict.images < 11
            seen.append(verdict.images)
    if metric in ("accuracy", "log_loss"):
        assert min(seen) < 11
    if metric == "calibration_error":
        assert min(seen) == 11


def test_images_with_most_mistakes_are_judged_first(validation: EvaluationSet) -> None:
    mistakes = np.zeros(11, dtype=np.int64)
    model = classifier()
    wrong = slow_logits(model, validation).argmax(axis=1) != validation.labels
    assert wrong.any()
    mistakes[np.flatnonzero(wrong)] = 5
    judge = ValidationJudge(classifier(), validation, PREPROCESSING, "accuracy", RUNTIME, 1, mistakes)
    verdict = judge(model.state_dict(), AtLeast(1.0 - 1 / 11, strict=True))
    assert (verdict.errors, verdict.images, verdict.complete) == (1, 1, False)
    assert mistakes.sum() == 5 * wrong.sum()  # The caller's array is left alone.
