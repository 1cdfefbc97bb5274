"""A fine-tune that is interrupted after any step and resumed ends with the same weights."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from soups.core.errors import EnvironmentFailure
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import build_augmentation
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry, training_geometry
from soups.evaluation.logits import EvaluationSet
from soups.models.classifier import Classifier
from soups.runtime.devices import Runtime
from soups.training.finetune import Finetune, FinetuneResult
from soups.training.settings import TrainingSettings
from soups.training.state import StateFile
from soups.training.step import OptimizerStep
from soups.training.training_set import TrainingSet

PREPROCESSING = Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LABELS = np.arange(12) % 2
EVERYTHING: dict[str, Any] = {"epochs": 2, "batch_size": 5, "lr": 3e-2, "mix": 0.3, "smoothing": 0.1, "random_seed": 1}


class CutOffError(Exception):
    """Takes the place of a kill: nothing is saved afterwards."""


class AnyStep(StateFile):
    """Saves after every step, keeps a copy of each state, and raises an error after `saves` of them."""

    def __init__(self, path: Path, saves: int | None = None) -> None:
        super().__init__(path, "these", 0)
        self.saves = saves
        self.copies: list[Path] = []

    def is_due(self, *, end_of_epoch: bool) -> bool:
        return True

    def write(self, state: dict[str, Any]) -> None:
        super().write(state)
        self.copies.append(self.path.with_name(f"{len(self.copies)}.state"))
        shutil.copyfile(self.path, self.copies[-1])
        if len(self.copies) == self.saves:
            raise CutOffError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from PIL import Image

    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number:02}.png" for number in range(len(LABELS))]
    for path, label in zip(paths, LABELS, strict=True):
        pixels = np.clip(90 + 60 * label + generator.integers(-60, 60, (9, 9, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def classifier(layer: type[nn.Module] = nn.BatchNorm1d) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), layer(6), nn.Dropout(0.3))
        return Classifier(backbone, nn.Linear(6, 2), normalise_features=False)


@pytest.fixture
def train(pictures: list[Path], tmp_path: Path) -> Callable[..., tuple[FinetuneResult, list[dict[str, Any]]]]:
    def run(file: StateFile | None = None, **values: Any) -> tuple[FinetuneResult, list[dict[str, Any]]]:
        runtime = Runtime(precision=values.pop("precision", "fp32"), threads=1, workers=values.pop("workers", 0))
        model, weights = values.pop("model", None) or classifier(), values.pop("class_weights", None)
        opened = [open_images(pictures, of(PREPROCESSING), "on", tmp_path) for of in GEOMETRIES]
        lines: list[dict[str, Any]] = []
        outcome = Finetune(
            classifier=model,
            training=training_set(opened[0], weights),
            validation=EvaluationSet("val", opened[1], LABELS, LABELS.astype(str), tuple(pictures)),
            settings=TrainingSettings.model_validate({**EVERYTHING, **values}),
            index=0,
            preprocessing=PREPROCESSING,
            metric="log_loss",
            runtime=runtime,
            eval_batch_size=7,
            on_epoch=lines.append,
            state_file=file,
        ).run()
        return outcome, lines

    return run


GEOMETRIES = training_geometry, evaluation_geometry


def training_set(images: Images, weights: np.ndarray | None) -> TrainingSet:
    return TrainingSet(images, LABELS, np.arange(len(LABELS)), build_augmentation(PREPROCESSING), class_weights=weights)


def same(first: FinetuneResult, second: FinetuneResult) -> bool:
    pairs = [(first.state[key], second.state[key]) for key in first.state]
    return first.scores == second.scores and all(torch.equal(*pair) for pair in pairs)


def without_speed(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "images_per_second"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"precision": "bf16", "lp_epochs": 1},
        {"patience": 1, "epochs": 5, "batch_size": 12},
        {"scheduler": "plateau", "decay_epochs": 1, "decay_rate": 0.5, "lp_epochs": 1, "patience": 2, "epochs": 3},
        {"freeze_backbone": True, "optimizer": "momentum"},
    ],
)
def test_resuming_from_every_step(train: Callable[..., Any], tmp_path: Path, values: dict[str, Any]) -> None:
    whole, lines = train(**values)
    file = AnyStep(tmp_path / "complete.state")
    watched, _ = train(file, **values)
    assert same(whole, watched)
    assert len(file.copies) >= 3
    for copy in file.copies:
        resumed, rest = train(StateFile(copy, "these", 0), **values)
        assert same(whole, resumed), copy
        # The lines logged after resuming equal those of an uninterrupted training; none is missing.
        assert [without_speed(line) for line in rest] == [without_speed(line) for line in lines[-len(rest) :]]


def test_repeated_interruptions_with_workers(train: Callable[..., Any], tmp_path: Path) -> None:
    whole, _ = train()
    path = tmp_path / "cut.state"
    for saves in (2, 2):
        with pytest.raises(CutOffError):
            train(AnyStep(path, saves), workers=2)
    resumed, _ = train(StateFile(path, "these", 0), workers=0)
    assert same(whole, resumed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["step", "validation"])
def test_a_signal_saves_the_state_and_ends_the_process(
    train: Callable[..., Any], tmp_path: Path, number: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train()
    steps = 0
    ordinary, forward = OptimizerStep.step, Classifier.forward

    def step(self: OptimizerStep, *arguments: Any) -> float:
        nonlocal steps
        steps += 1
        if moment == "step" and steps == 2:
            os.kill(os.getpid(), number)
        return ordinary(self, *arguments)

    def validating(self: Classifier, inputs: torch.Tensor) -> torch.Tensor:
        if moment == "validation" and not self.training and steps == 3:
            os.kill(os.getpid(), number)
        return forward(self, inputs)

    path = tmp_path / "left.state"
    inherited = signal.getsignal(signal.SIGINT)
    # A process that a shell starts in the background ignores Ctrl-C, and this is not changed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(OptimizerStep, "step", step)
        patch.setattr(Classifier, "forward", validating)
        with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
            train(StateFile(path, "these", 0))
    assert steps == (2 if moment == "step" else 3)
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, inherited)
    assert isinstance(caught.value, KeyboardInterrupt) or caught.value.code == 143
    resumed, _ = train(StateFile(path, "these", 0))
    assert same(whole, resumed)


def small(limit: int, layer: type[nn.Module] = nn.Identity) -> Classifier:
    """A classifier that runs out of memory for more than `limit` images at once, after it has drawn for dropout."""
    model = classifier(lambda width: nn.BatchNorm1d(width) if layer is nn.BatchNorm1d else nn.Identity())  # type: ignore[arg-type]
    model.backbone.append(Hungry(limit))
    return model


class Hungry(nn.Module):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) > self.limit:
            raise torch.OutOfMemoryError(f"out of memory for {len(inputs)}")
        return inputs


@pytest.mark.parametrize("values", [{}, {"mix": 0.0, "class_weights": np.array([1.0, 4.0])}, {"loss_fn": "FocalLoss"}])
def test_out_of_memory_halves_the_batch(
    train: Callable[..., Any], tmp_path: Path, values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    values = {"batch_size": 7, "lr": 1e-3, **values}  # Micro-batches of 3, 3 and 1, and in the last batch 3 and 2.
    for dropout in ("whole", "parts"):
        for model in (whole_model := small(99), parts_model := small(3)):
            model.backbone[3].p = 0.0
        if dropout == "whole":
            whole, lines = train(model=whole_model, **values)
        else:
            parts, in_parts = train(model=parts_model, **values)
    assert whole.micro_batch_size is None and parts.micro_batch_size == 3
    for key in whole.state:
        torch.testing.assert_close(whole.state[key], parts.state[key], rtol=1e-4, atol=1e-6)
    assert [line["loss"] for line in in_parts] == pytest.approx([line["loss"] for line in lines], rel=1e-5)
    assert [line.get("micro_batch_size") for line in in_parts] == [3] * 2
    assert "micro_batch_size" not in lines[0]
    assert caplog.text.count("out of memory with 7 images at once") == 1


def test_out_of_memory_restores_the_state_before_the_failed_try(train: Callable[..., Any], tmp_path: Path) -> None:
    """A resumed training uses the smaller micro-batches; BatchNorm and dropout start from the state before the failed
    try."""
    whole, _ = train(model=small(3, nn.BatchNorm1d), batch_size=6)
    again, _ = train(model=small(3, nn.BatchNorm1d), batch_size=6)
    assert same(whole, again)
    counted = whole.state["backbone.2.num_batches_tracked"]
    assert counted == 2 * 4  # Two batches per epoch in two micro-batches each, without the failed try.
    path = tmp_path / "cut.state"
    with pytest.raises(CutOffError):
        train(AnyStep(path, 2), model=small(3, nn.BatchNorm1d), batch_size=6)
    resumed, _ = train(StateFile(path, "these", 0), model=small(99, nn.BatchNorm1d), batch_size=6)
    assert same(whole, resumed)
    assert resumed.micro_batch_size == 3


def test_no_memory_for_one_image_is_an_error(train: Callable[..., Any]) -> None:
    with pytest.raises(EnvironmentFailure, match="out of memory, even for one image"):
        train(model=small(0))


def test_unusable_states_are_ignored(
    train: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.state"
    with pytest.raises(CutOffError):
        train(AnyStep(path, 1))
    content = bytearray(path.read_bytes())
    assert StateFile(path, "these", 0).read() is not None
    assert StateFile(path, "others", 0).read() is None
    assert "belongs to a training with other settings" in caplog.text
    for damaged in (
        content[:-3],
        content[: len(content) // 2],
        content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        b"",
    ):
        path.write_bytes(damaged)
        assert StateFile(path, "these", 0).read() is None
    assert caplog.text.count("training starts again from the first epoch") == 4
    path.write_bytes(
        content.replace(b'"left"', b'"lefT"') if b'"left"' in content else content.replace(b"left", b"lefT")
    )
    assert StateFile(path, "these", 0).read() is None


def test_ends_of_epochs_are_saved_while_it_is_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soups.training import state

    now = 0.0
    monkeypatch.setattr(state.time, "monotonic", lambda: now)
    file = StateFile(tmp_path / "a.state", "these", 10)
    file.start_clock(300_000_000)  # Three seconds by the first estimate: worth it every hundred seconds.
    now = 99.0
    assert not file.is_due(end_of_epoch=True)
    now = 101.0
    assert file.is_due(end_of_epoch=True) and not file.is_due(end_of_epoch=False)
    file.write({"weights": torch.zeros(3)})  # Saving took no time.
    assert file.is_due(end_of_epoch=True) and not file.is_due(end_of_epoch=False)
    now = 702.0
    assert file.is_due(end_of_epoch=False)
    assert not StateFile(tmp_path / "b.state", "these", 0).is_due(end_of_epoch=False)


def test_any_optimizer_state_is_restored(tmp_path: Path) -> None:
    value = {"a": [1, (2.5, None)], 3: {"b": torch.arange(4).reshape(2, 2), "c": float("inf")}, "d": torch.tensor(1.5)}
    file = StateFile(tmp_path / "a.state", "these", 0)
    file.write(value)
    found = file.read()
    assert found is not None
    assert found["a"] == [1, (2.5, None)] and found[3]["c"] == float("inf")
    assert torch.equal(found[3]["b"], value[3]["b"]) and found["d"].shape == ()
    with pytest.raises(TypeError, match="not set"):
        file.write({"a": {1}})
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["a.state"]'
