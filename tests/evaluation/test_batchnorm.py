"""BatchNorm in soups: the statistics against a slow reference, and a soup that collapses without them."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import timm
import torch
from torch import nn

from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry
from soups.evaluation.batchnorm import (
    BatchNormRecomputer,
    batchnorm_layers,
    has_statistics,
    select_images,
    statistics_fingerprint,
)
from soups.evaluation.judge import ValidationJudge
from soups.evaluation.logits import EvaluationSet
from soups.runtime.devices import Runtime
from soups.weights.state_dict import average_states

PREPROCESSING = Preprocessing(size=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
RUNTIME = Runtime(precision="fp32", threads=1)
State = Mapping[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Images, np.ndarray]:
    """150 noisy pictures, brighter above (class 1) or below (class 0), under a light of their own."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("halves")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 150)
    paths = [folder / f"{number}.png" for number in range(150)]
    for path, label in zip(paths, labels, strict=True):
        rows = np.arange(4) < 2 if label else np.arange(4) >= 2
        pixels = 90 + generator.normal(0, 25, 1) + 30 * rows[:, None, None] + generator.normal(0, 25, (4, 4, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return open_images(paths, evaluation_geometry(PREPROCESSING), "on", folder), labels


def network(width: int = 8, depth: int = 2) -> nn.Sequential:
    """A small convolutional network whose dropout must stay off."""
    layers: list[nn.Module] = []
    for block in range(depth):
        layers.append(nn.Conv2d(width if block else 3, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * width, 2))


def inputs_of(images: Images, rows: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(images.take(rows)).double() / 255
    pixels = (pixels - torch.tensor(PREPROCESSING.mean).double()) / torch.tensor(PREPROCESSING.std).double()
    return pixels.permute(0, 3, 1, 2)


def slow_statistics(state: State, images: Images) -> dict[str, np.ndarray]:
    """Of `network`, by hand and in float64: each batch is normalised by itself, the plain mean is over batches."""
    model = network().double().eval()
    model.load_state_dict(state)
    found: dict[str, list[np.ndarray]] = {}
    batches = np.array_split(np.arange(len(images)), max(1, len(images) // 64))
    for rows in batches:
        values = inputs_of(images, rows)
        for name, layer in model.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                table = values.transpose(0, 1).reshape(values.shape[1], -1).detach().numpy()
                found.setdefault(f"{name}.running_mean", []).append(table.mean(axis=1))
                found.setdefault(f"{name}.running_var", []).append(table.var(axis=1, ddof=1))
                shaped = (1, -1, 1, 1)
                mean, variance = table.mean(axis=1).reshape(shaped), table.var(axis=1).reshape(shaped)
                values = (values - torch.from_numpy(mean)) / torch.from_numpy(np.sqrt(variance + layer.eps))
                values = values * layer.weight.reshape(shaped) + layer.bias.reshape(shaped)
            else:
                values = layer(values)
    return {key: np.mean(parts, axis=0) for key, parts in found.items()}


def recomputer(images: Images, fingerprints: frozenset[str] = frozenset()) -> BatchNormRecomputer:
    return BatchNormRecomputer(images, PREPROCESSING, RUNTIME, fingerprints)


def test_statistics_are_the_plain_mean_over_batches(pictures: tuple[Images, np.ndarray]) -> None:
    images, _ = pictures
    model = network()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["1.num_batches_tracked"] += 7
    expected = slow_statistics(state, images)
    model.load_state_dict(state)
    recomputed = recomputer(images).recomputed_state(model, state)
    assert recomputed.keys() == state.keys() and len(expected) == 4
    for key, value in recomputed.items():
        if key in expected:
            assert np.allclose(value.numpy(), expected[key], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(value, state[key])  # Weights and counters of batches.
    assert all(layer.momentum == 0.1 and not layer.training for layer in batchnorm_layers(model).values())
    again = recomputer(images).recomputed_state(model, state)
    assert all(torch.equal(again[key], recomputed[key]) for key in recomputed)


def test_a_single_model_keeps_its_statistics(pictures: tuple[Images, np.ndarray]) -> None:
    images, _ = pictures
    model = network()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    layers = tuple(batchnorm_layers(model))
    recomputed = recomputer(images, frozenset({statistics_fingerprint(state, layers)})).recomputed_state(model, state)
    assert all(torch.equal(recomputed[key], state[key]) for key in state)
    other = {**state, "1.running_var": state["1.running_var"].nextafter(torch.tensor(2.0))}
    model.load_state_dict(other)
    recomputed = recomputer(images, frozenset({statistics_fingerprint(state, layers)})).recomputed_state(model, other)
    assert not torch.equal(recomputed["1.running_var"], other["1.running_var"])


def test_statistics_are_rounded_to_the_dtype_of_the_file(pictures: tuple[Images, np.ndarray]) -> None:
    images, _ = pictures
    model = network()
    state = {k: v.half() if v.is_floating_point() else v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    recomputed = recomputer(images).recomputed_state(model, state)
    assert recomputed["1.running_mean"].dtype == torch.float16
    assert torch.equal(model.state_dict()["1.running_mean"], recomputed["1.running_mean"].float())


def test_layers_with_running_statistics() -> None:
    from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d

    kinds: dict[str, nn.Module] = {"plain": nn.BatchNorm2d(2), "act": BatchNormAct2d(2)}
    kinds |= {"frozen": FrozenBatchNormAct2d(2), "stateless": nn.BatchNorm1d(2, track_running_stats=False)}
    kinds |= {"layer": nn.LayerNorm(2), "instance": nn.InstanceNorm2d(2, track_running_stats=True)}
    assert list(batchnorm_layers(nn.ModuleDict(kinds))) == ["plain", "act"]
    assert len(batchnorm_layers(timm.create_model("test_efficientnet"))) == 13
    assert not has_statistics(nn.Linear(2, 2).state_dict()) and has_statistics(kinds["plain"].state_dict())


def test_images_are_selected_without_repetition_and_shuffled() -> None:
    rows = select_images(3000)
    assert len(rows) == len(set(rows.tolist())) == 1024
    assert (select_images(3000) == rows).all() and (np.diff(rows) < 0).sum() > 400
    assert sorted(select_images(5).tolist()) == [0, 1, 2, 3, 4]


def fine_tuned(start: State, seed: int, images: Images, labels: np.ndarray) -> dict[str, torch.Tensor]:
    """A network far from its start: the learning rate is much too high."""
    model = network(16, 4)
    model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    inputs, targets = inputs_of(images, np.arange(len(images))).float(), torch.from_numpy(labels)
    torch.manual_seed(seed)
    for _ in range(60):
        batch = torch.randint(0, len(images), (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(inputs[batch]), targets[batch]).backward()
        optimizer.step()
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_a_soup_that_collapses_with_averaged_statistics(pictures: tuple[Images, np.ndarray]) -> None:
    images, labels = pictures
    validation = EvaluationSet("val", images, labels, labels.astype(str), tuple(images.paths))
    start = network(16, 4).state_dict()
    states = [fine_tuned(start, seed, images, labels) for seed in (1, 2)]
    mean = average_states([(str(number), state) for number, state in enumerate(states)])

    def judge_with(batchnorm: BatchNormRecomputer | None) -> ValidationJudge:
        return ValidationJudge(network(16, 4), validation, PREPROCESSING, "accuracy", RUNTIME, 64, recomputer=batchnorm)

    averaged, recomputing = judge_with(None), judge_with(recomputer(images))
    assert min(averaged(state).score for state in states) > 0.95
    assert averaged(mean).score < 0.65 and averaged.with_batchnorm(mean) is mean
    verdict = recomputing(mean)
    assert verdict.score > 0.9
    assert averaged(recomputing.with_batchnorm(mean)) == verdict  # The file holds the judged weights.
    recomputing(states[0])
    assert recomputing(mean) == verdict  # Earlier states leave nothing behind.
