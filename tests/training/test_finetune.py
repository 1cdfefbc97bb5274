"""One fine-tune on arrays: the trained parameters, early stopping and the best epoch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import build_augmentation
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry, training_geometry
from soups.evaluation.logits import EvaluationSet
from soups.models.baseline.network import Baseline
from soups.models.classifier import Classifier
from soups.runtime.devices import Runtime
from soups.training.finetune import Finetune
from soups.training.losses import LOSSES
from soups.training.optimizers import make_optimizer
from soups.training.schedule import DECAYING
from soups.training.settings import TrainingSettings
from soups.training.training_set import TrainingSet

PREPROCESSING = Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], np.ndarray]:
    """Twelve dark and twelve light images."""
    from PIL import Image

    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    labels = np.arange(24) % 2
    paths = []
    for number, label in enumerate(labels):
        pixels = np.clip(70 + 110 * label + generator.integers(-40, 40, (9, 9, 3)), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:02}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths, labels


def small_classifier() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Dropout(0.1))
        return Classifier(backbone, nn.Linear(6, 2), normalise_features=False)


def fine_tune(pictures: tuple[list[Path], np.ndarray], folder: Path, **values: Any) -> tuple[Any, list[dict[str, Any]]]:
    paths, labels = pictures
    runtime = Runtime(precision=values.pop("precision", "fp32"), threads=1)
    metric = values.pop("metric", "accuracy")
    more = {key: values.pop(key) for key in ("class_weights", "chances") if key in values}
    defaults = {"epochs": 3, "lr": 1e-2, "batch_size": 5, "random_seed": 1}
    settings = TrainingSettings.model_validate({**defaults, **values})
    lines: list[dict[str, Any]] = []
    images: Images = open_images(paths, training_geometry(PREPROCESSING), "on", folder)
    outcome = Finetune(
        classifier=small_classifier(),
        training=TrainingSet(
            images, labels, np.arange(24), build_augmentation(PREPROCESSING, rand_augment=settings.aug), **more
        ),
        validation=EvaluationSet(
            "val",
            open_images(paths, evaluation_geometry(PREPROCESSING), "on", folder),
            labels,
            labels.astype(str),
            tuple(paths),
        ),
        settings=settings,
        index=0,
        preprocessing=PREPROCESSING,
        metric=metric,
        runtime=runtime,
        eval_batch_size=7,
        on_epoch=lines.append,
    ).run()
    return outcome, lines


def test_the_loss_falls_and_each_epoch_has_a_line(pictures: Any, tmp_path: Path) -> None:
    outcome, lines = fine_tune(pictures, tmp_path, epochs=8, lr=3e-3)
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < 0.9 * math.log(2)  # The loss of guessing.
    assert outcome.scores["accuracy"] == 1.0
    assert lines[-1]["val"] == outcome.scores
    assert lines[-1]["lr"] == pytest.approx(0.0)


def test_bytes_depend_on_the_seed_alone(pictures: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, _ = fine_tune(pictures, tmp_path, mix=0.4, smoothing=0.1)
    torch.manual_seed(2)  # Earlier draws must not change the result.
    second, _ = fine_tune(pictures, tmp_path, mix=0.4, smoothing=0.1)
    other, _ = fine_tune(pictures, tmp_path, mix=0.4, smoothing=0.1, random_seed=2)
    assert all(torch.equal(first.state[key], second.state[key]) for key in first.state)
    assert any(not torch.equal(first.state[key], other.state[key]) for key in first.state)


def test_the_global_generator_is_restored(pictures: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fine_tune(pictures, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_frozen_backbone_keeps_weights_and_statistics(pictures: Any, tmp_path: Path) -> None:
    outcome, lines = fine_tune(pictures, tmp_path, freeze_backbone=True)
    before = small_classifier().state_dict()
    moved = {key for key in before if not torch.equal(before[key], outcome.state[key])}
    assert moved == {"head.weight", "head.bias"}
    assert [line["phase"] for line in lines] == ["head"] * 3


def test_linear_probing_then_all_weights(pictures: Any, tmp_path: Path) -> None:
    outcome, lines = fine_tune(pictures, tmp_path, lp_epochs=2, epochs=1)
    assert [line["phase"] for line in lines] == ["head", "head", "all"]
    before = small_classifier().state_dict()
    assert not torch.equal(before["backbone.1.weight"], outcome.state["backbone.1.weight"])


def test_early_stopping_keeps_the_best_epoch(pictures: Any, tmp_path: Path) -> None:
    outcome, lines = fine_tune(pictures, tmp_path, epochs=40, patience=2, lr=3e-3)
    assert len(lines) < 40
    values = [line["val"]["accuracy"] for line in lines]
    best = int(np.argmax(values))
    assert len(lines) == best + 1 + 2
    assert outcome.scores == lines[best]["val"]


def test_validation_follows_validate_every(pictures: Any, tmp_path: Path) -> None:
    _, lines = fine_tune(pictures, tmp_path, epochs=5, validate_every=2)
    assert ["val" in line for line in lines] == [False, True, False, True, True]
    often, _ = fine_tune(pictures, tmp_path, epochs=5, validate_every=1)
    seldom, _ = fine_tune(pictures, tmp_path, epochs=5, validate_every=0)
    assert all(torch.equal(often.state[key], seldom.state[key]) for key in often.state)


def test_a_loss_that_is_not_finite_is_an_error(pictures: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the loss became (nan|inf).*\n.*\n.*lower the learning rate"):
        fine_tune(pictures, tmp_path, lr=1e30, clip=0.0, epochs=10)


def test_an_exploding_loss_is_an_error(pictures: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lr 100000: the loss exploded in epoch 1, step 5"):
        fine_tune(pictures, tmp_path, lr=1e5, optimizer="sgd", scheduler="constant")
    _, lines = fine_tune(pictures, tmp_path, lr=1.0, optimizer="sgd")
    assert len(lines) == 3


def test_half_precision_trains_the_same_task(pictures: Any, tmp_path: Path) -> None:
    outcome, _ = fine_tune(pictures, tmp_path, epochs=8, precision="bf16", lp_epochs=1)
    assert outcome.scores["accuracy"] == 1.0
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in outcome.state.values())


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("cosine", [0.5 * (1 + math.cos(math.pi * share)) for share in (0.25, 0.5, 0.75, 1)]),
        ("linear", [0.75, 0.5, 0.25, 0]),
        ("constant", [1, 1, 1, 1]),
        ("step", [1, 0.5, 0.5, 0.25]),
        ("exponential", [0.5**0.5, 0.5, 0.5**1.5, 0.25]),
    ],
)
def test_the_rate_follows_the_schedule(pictures: Any, tmp_path: Path, scheduler: str, rates: list[float]) -> None:
    falls = {"decay_epochs": 2, "decay_rate": 0.5} if scheduler in DECAYING else {}
    _, lines = fine_tune(pictures, tmp_path, epochs=4, warmup=0, scheduler=scheduler, **falls)
    assert [line["lr"] for line in lines] == pytest.approx([1e-2 * rate for rate in rates], abs=1e-9)


def test_the_default_schedule_is_the_cosine(pictures: Any, tmp_path: Path) -> None:
    usual, _ = fine_tune(pictures, tmp_path)
    named, _ = fine_tune(pictures, tmp_path, scheduler="cosine")
    other, _ = fine_tune(pictures, tmp_path, scheduler="linear")
    assert all(torch.equal(usual.state[key], named.state[key]) for key in usual.state)
    assert any(not torch.equal(usual.state[key], other.state[key]) for key in usual.state)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_rate_decays_on_a_plateau(pictures: Any, tmp_path: Path, metric: str) -> None:
    options = {"decay_epochs": 2, "decay_rate": 0.5, "warmup": 0, "validate_every": 0, "lr": 3e-2}
    _, lines = fine_tune(pictures, tmp_path, epochs=12, scheduler="plateau", metric=metric, **options)
    best, waited, rate, expected = math.inf, 0, 3e-2, []
    for line in lines:
        expected.append(rate)  # The rate of the whole epoch; the decay comes after its validation.
        value = line["val"][metric] * (1 if metric == "log_loss" else -1)
        waited = 0 if value < best else waited + 1
        best = min(best, value)
        rate *= 0.5 if waited and waited % 2 == 0 else 1
    assert [line["lr"] for line in lines] == pytest.approx(expected, rel=1e-12)
    assert lines[-1]["lr"] < 3e-2


def test_patience_follows_the_metric(pictures: Any, tmp_path: Path) -> None:
    outcome, lines = fine_tune(
        pictures, tmp_path, epochs=60, patience=2, lr=5e-2, metric="log_loss", scheduler="constant"
    )
    values = [line["val"]["log_loss"] for line in lines]
    best = int(np.argmin(values))
    assert len(lines) == best + 1 + 2 < 60
    assert outcome.scores == lines[best]["val"]
    accuracies = [line["val"]["accuracy"] for line in lines]
    assert best != int(np.argmax(accuracies))  # Accuracy would have chosen another epoch.


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("mix", [0.0, 0.2])
def test_every_loss_trains_backbone_and_head(pictures: Any, tmp_path: Path, loss: str, mix: float) -> None:
    outcome, lines = fine_tune(pictures, tmp_path, epochs=12, lr=5e-3, loss_fn=loss, mix=mix)
    assert outcome.scores["accuracy"] == 1.0
    if not mix:  # The loss of mixed images depends on their shares.
        assert lines[-1]["loss"] < lines[0]["loss"]
    before = small_classifier().state_dict()
    assert not any(torch.equal(before[key], outcome.state[key]) for key in ("backbone.1.weight", "head.weight"))


def test_losses_get_their_options(pictures: Any, tmp_path: Path) -> None:
    _, plain = fine_tune(pictures, tmp_path, epochs=1)
    for options in (
        {"loss_fn": "FocalLoss", "focal_gamma": 0.5},
        {"loss_fn": "ContrastiveLoss", "contrastive_weight": 3.0},
        {"smoothing": 0.2},
        {"class_weights": np.array([5.0, 0.1])},
    ):
        _, lines = fine_tune(pictures, tmp_path, epochs=1, **options)
        assert lines[0]["loss"] != pytest.approx(plain[0]["loss"], rel=1e-3), options
    _, same = fine_tune(pictures, tmp_path, epochs=1, loss_fn="FocalLoss", focal_gamma=0.0)
    assert same[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-4)


def test_half_precision_keeps_every_loss_finite(pictures: Any, tmp_path: Path) -> None:
    for loss in LOSSES:
        _, lines = fine_tune(pictures, tmp_path, epochs=2, precision="bf16", loss_fn=loss)
        assert math.isfinite(lines[-1]["loss"])


def test_a_balanced_sampler_draws_images_by_their_probabilities(pictures: Any, tmp_path: Path) -> None:
    _, labels = pictures
    chances = np.where(labels == 1, 1.0, 0.0) / labels.sum()
    lopsided, _ = fine_tune(pictures, tmp_path, epochs=20, chances=chances)
    both, _ = fine_tune(pictures, tmp_path, epochs=20)
    leanings = [float(each.state["head.bias"].diff()) for each in (lopsided, both)]
    assert leanings[0] > leanings[1] + 0.1  # Trained on one class only, it predicts that class.


def two_blocks() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(Baseline((4, 6)), nn.Linear(6, 2), normalise_features=False)


def test_frozen_stages_do_not_change(pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "small_classifier", two_blocks)
    before = two_blocks().state_dict()
    outcome, _ = fine_tune(pictures, tmp_path, freeze=1, lp_epochs=1, wd=0.5, patience=2)
    stand = {key for key, tensor in outcome.state.items() if torch.equal(tensor, before[key])}
    assert stand == {key for key in before if key.startswith("backbone.blocks.0.")}
    everything, _ = fine_tune(pictures, tmp_path, wd=0.5)
    assert not any(torch.equal(tensor, before[key]) for key, tensor in everything.state.items())


def test_the_learning_rate_decays_by_layer() -> None:
    classifier = two_blocks()
    optimizer = make_optimizer(classifier, TrainingSettings(lr=0.1, layer_decay=0.5, wd=0.2))
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    # The head has the whole rate, the block before it half of it, and the one before that a quarter.
    expected = {"head": 0.1, "backbone.blocks.1": 0.05, "backbone.blocks.0": 0.025}
    for key, parameter in classifier.named_parameters():
        rate = next(rate for prefix, rate in expected.items() if key.startswith(prefix))
        assert rates[id(parameter)] == (rate, 0.2 if parameter.ndim > 1 else 0)


def test_a_step_with_layer_decay_equals_the_slow_reference(
    pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of plain gradient descent: each tensor's change is its rate times the change without decay."""
    monkeypatch.setitem(globals(), "small_classifier", two_blocks)
    before = two_blocks().state_dict()
    once = {"epochs": 1, "batch_size": 24, "optimizer": "momentum", "wd": 0.0, "clip": 0.0, "warmup": 0.0}
    plain, lines = fine_tune(pictures, tmp_path, **once)
    decayed, decayed_lines = fine_tune(pictures, tmp_path, **once, layer_decay=0.5)
    assert lines[0]["lr"] == decayed_lines[0]["lr"]
    for key, share in (("head.weight", 1.0), ("backbone.blocks.1.0.weight", 0.5), ("backbone.blocks.0.0.weight", 0.25)):
        moved = plain.state[key] - before[key]
        assert moved.abs().max() > 0
        torch.testing.assert_close(decayed.state[key] - before[key], share * moved, rtol=1e-3, atol=1e-7)
