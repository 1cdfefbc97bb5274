"""Gradients and Fishers of the judge against plain torch: everything at once in float64, one image after the other."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing, normalise
from soups.data.images.cache import open_images
from soups.data.images.geometry import evaluation_geometry
from soups.evaluation import gradients
from soups.evaluation.judge import ValidationJudge
from soups.evaluation.logits import EvaluationSet
from soups.models.classifier import Classifier
from soups.runtime.devices import Runtime, derived_seed

PREPROCESSING = Preprocessing(size=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
RUNTIME = Runtime(precision="fp32", threads=1)
IMAGES = 27


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def classifier() -> Classifier:
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.Dropout(0.5)
    )
    backbone[1].running_mean.normal_()
    backbone[1].running_var.uniform_(0.5, 2)
    backbone.register_parameter("unused", nn.Parameter(torch.ones(2)))
    backbone[4].bias.requires_grad_(False)
    return Classifier(backbone, nn.Linear(5, 3), normalise_features=False).eval()


@pytest.fixture
def validation(tmp_path: Path) -> EvaluationSet:
    from PIL import Image

    generator = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{number}.png" for number in range(IMAGES))
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(path)
    images = open_images(paths, evaluation_geometry(PREPROCESSING), "off", tmp_path)
    return EvaluationSet("val", images, generator.integers(0, 3, IMAGES), np.array(["g"] * IMAGES), paths)


def judge_of(validation: EvaluationSet, batch_size: int = 4, precision: str = "fp32") -> ValidationJudge:
    runtime = Runtime(precision=precision, threads=1)  # type: ignore[arg-type]
    return ValidationJudge(classifier(), validation, PREPROCESSING, "accuracy", runtime, batch_size)


def inputs(validation: EvaluationSet, rows: np.ndarray) -> torch.Tensor:
    return normalise(torch.from_numpy(validation.images.take(rows)), PREPROCESSING).double()


def slow_gradient(model: nn.Module, validation: EvaluationSet, rows: np.ndarray) -> tuple[float, dict]:
    model = model.double().eval()
    loss = F.cross_entropy(model(inputs(validation, rows)), torch.from_numpy(validation.labels[rows]))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    values = torch.autograd.grad(loss, [model.get_parameter(name) for name in names], allow_unused=True)
    return float(loss.detach()), dict(zip(names, values, strict=True))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_gradient_equals_that_of_one_large_batch(validation: EvaluationSet, batch_size: int) -> None:
    model, judge = classifier(), judge_of(validation, batch_size)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for seed in (0, 5):
        loss, found = judge.gradient(state, seed)
        rows = gradients.sample_images(IMAGES, seed)
        expected_loss, expected = slow_gradient(model, validation, rows)
        model.float()
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert found.keys() == {key for key, tensor in state.items() if tensor.is_floating_point()}
        for key, tensor in found.items():
            reference = expected.get(key)
            assert tensor.shape == state[key].shape and tensor.dtype == torch.float32 and not tensor.requires_grad
            torch.testing.assert_close(
                tensor, torch.zeros_like(tensor) if reference is None else reference.float(), rtol=1e-4, atol=1e-6
            )
    assert not found["backbone.unused"].any() and not found["backbone.1.running_var"].any()
    assert not found["backbone.4.bias"].any()  # Frozen.
    assert all(parameter.grad is None for parameter in judge.classifier.parameters())


def test_gradients_are_deterministic_and_leave_verdicts_unchanged(validation: EvaluationSet) -> None:
    model, judge = classifier(), judge_of(validation)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    before = judge(state)
    one, other = judge.gradient(state, 3), judge.gradient(state, 3)
    assert one[0] == other[0] and all(torch.equal(one[1][key], other[1][key]) for key in one[1])
    assert judge(state) == before
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in state.items())


def test_gradients_under_bf16_are_float32(validation: EvaluationSet) -> None:
    model, judge = classifier(), judge_of(validation, precision="bf16")
    loss, found = judge.gradient(model.state_dict(), 0)
    expected_loss, expected = slow_gradient(model, validation, gradients.sample_images(IMAGES, 0))
    assert loss == pytest.approx(expected_loss, rel=0.02) and loss != pytest.approx(expected_loss, rel=1e-6)
    for key in ("head.weight", "backbone.0.weight"):
        assert found[key].dtype == torch.float32
        torch.testing.assert_close(found[key], expected[key].float(), rtol=0.1, atol=0.02)


def test_batches_are_small_if_the_forward_pass_saves_much(
    validation: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Watched(Classifier):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return super().forward(images)

    judge = judge_of(validation, batch_size=100)
    judge.classifier.__class__ = Watched
    state = judge.classifier.state_dict()
    rows = np.arange(9)
    ways = []
    for room in (1, 1000, 2**28):
        monkeypatch.setattr(gradients, "_MIN_BUDGET", room)
        sizes.clear()
        ways.append(
            gradients.log_loss_gradient(judge.classifier, validation, rows, PREPROCESSING, RUNTIME, batch_size=100)
        )
        assert sum(sizes[2:]) == 9  # After the two that measure.
        assert (len(sizes) == 3) == (room == 2**28)
    assert max(sizes) == 9
    for loss, found in ways[1:]:
        assert loss == pytest.approx(ways[0][0], rel=1e-5)
        torch.testing.assert_close(found["head.weight"], ways[0][1]["head.weight"], rtol=1e-4, atol=1e-6)
    assert state.keys() == judge.classifier.state_dict().keys()


@pytest.mark.parametrize("images", [1, 5, 8, 27, 1000, 9000])
def test_consecutive_seeds_use_each_image_once(images: int) -> None:
    parts = min(images, max(8, -(-images // 1024)))
    for first in (0, parts, 7 * parts):
        drawn = [gradients.sample_images(images, first + step) for step in range(parts)]
        assert Counter(np.concatenate(drawn).tolist()) == Counter(range(images))
        assert max(map(len, drawn)) <= 1024 and max(map(len, drawn)) - min(map(len, drawn)) <= 1
    if images > 8:
        assert not np.array_equal(gradients.sample_images(images, 0), gradients.sample_images(images, parts))


def test_fisher_information_is_the_mean_square_of_single_gradients(validation: EvaluationSet) -> None:
    model, judge = classifier(), judge_of(validation)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    found = judge.fisher(state, 4)

    generator = np.random.default_rng(derived_seed(4))
    rows, throws = np.sort(generator.permutation(IMAGES)), generator.random(IMAGES)
    expected: dict[str, torch.Tensor] = {key: torch.zeros(tensor.shape).double() for key, tensor in state.items()}
    model.double()
    for row, throw in zip(rows, throws, strict=True):
        model.zero_grad()
        logs = model(inputs(validation, np.array([row]))).log_softmax(1)[0]
        bounds = logs.exp().detach().cumsum(0)
        logs[int((bounds <= throw).sum())].backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                expected[name] += parameter.grad**2 / IMAGES
    assert found.keys() == {key for key, tensor in state.items() if tensor.is_floating_point()}
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key].float(), rtol=1e-3, atol=1e-7)
    assert found["head.weight"].any() and not found["backbone.1.running_mean"].any()
    assert all(parameter.grad is None for parameter in judge.classifier.parameters())


def test_fisher_information_does_not_depend_on_labels(validation: EvaluationSet) -> None:
    other = EvaluationSet("val", validation.images, 2 - validation.labels, validation.groups, validation.paths)
    state = classifier().state_dict()
    one, two = judge_of(validation).fisher(state, 0), judge_of(other).fisher(state, 0)
    assert all(torch.equal(one[key], two[key]) for key in one)
    again = judge_of(validation).fisher(state, 1)
    assert not torch.equal(one["head.weight"], again["head.weight"])


def test_fisher_information_uses_a_limited_number_of_images(
    validation: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "MAX_FISHER_IMAGES", 3)
    judge, state = judge_of(validation), classifier().state_dict()
    taken: list[int] = []
    whole = validation.images.take
    monkeypatch.setattr(validation.images, "take", lambda rows: taken.extend(rows) or whole(rows))
    judge.fisher(state, 0)
    assert len(taken) == 3 == len(set(taken))


def test_weights_of_another_network_are_rejected(validation: EvaluationSet) -> None:
    judge, state = judge_of(validation), dict(classifier().state_dict())
    with pytest.raises(DataError, match=r"'head.bias' is missing"):
        judge.gradient({key: tensor for key, tensor in state.items() if key != "head.bias"}, 0)
    with pytest.raises(DataError, match=r"'more' is not one of this network"):
        judge.gradient({**state, "more": torch.zeros(1)}, 0)
    with pytest.raises(DataError, match=r"'head.bias' has another shape(?s:.*)\[3\](?s:.*)\[1\]"):
        judge.gradient({**state, "head.bias": torch.zeros(1)}, 0)
