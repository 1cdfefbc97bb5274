"""Training on an accelerator; skipped without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soups.data.augment.augment import build_augmentation
from soups.data.images.cache import open_images
from soups.data.images.geometry import evaluation_geometry, training_geometry
from soups.evaluation.logits import EvaluationSet, compute_logits
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.runtime.devices import Runtime, prefer_determinism
from soups.training.finetune import Finetune, FinetuneResult
from soups.training.settings import TrainingSettings
from soups.training.state import StateFile
from soups.training.training_set import TrainingSet
from tests.training.test_state import AnyStep, same

if not torch.accelerator.is_available():
    pytest.skip("no accelerator here", allow_module_level=True)

CLASSES = ("cat", "dog", "owl")
LABELS = np.arange(40) % 3
NETWORKS = {
    "vit": "timm:vit_tiny_patch16_224 img_size=64 depth=3 drop_path_rate=0.2",
    "resnet": "timm:resnet18",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from PIL import Image

    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number:02}.png" for number in range(len(LABELS))]
    for path, label in zip(paths, LABELS, strict=True):
        pixels = np.clip(60 + 40 * label + generator.integers(-60, 60, (72, 72, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def train(pictures: list[Path], tmp_path: Path) -> Callable[..., FinetuneResult]:
    prefer_determinism()

    def run(network: str, file: StateFile | None = None, **values: Any) -> FinetuneResult:
        chosen = {"precision": "bf16", "deterministic": True, "device": "auto"} | values.pop("runtime", {})
        device = chosen.pop("device")
        name, *arguments = NETWORKS[network].split()
        settings = ModelSettings(
            model=name, model_args=tuple(arguments), pretrained="none", head="random", image_size=64
        )
        start = build_start(settings, CLASSES, seed=0)
        values_of = start.preprocessing
        train_images, images = (
            open_images(pictures, of(values_of), "on", tmp_path) for of in (training_geometry, evaluation_geometry)
        )
        given = {"epochs": 2, "batch_size": 16, "lr": 1e-3, "mix": 0.2, "random_seed": 1} | values
        return Finetune(
            classifier=start.classifier,
            training=TrainingSet(train_images, LABELS, np.arange(len(LABELS)), build_augmentation(values_of)),
            validation=EvaluationSet("val", images, LABELS, LABELS.astype(str), tuple(pictures)),
            settings=TrainingSettings.model_validate(given),
            index=0,
            preprocessing=values_of,
            metric="log_loss",
            runtime=Runtime(requested_device=device, threads=2, **chosen),
            eval_batch_size=16,
            on_epoch=lambda line: None,
            state_file=file,
        ).run()

    return run


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp16"])
def test_a_deterministic_training_resumes_with_the_same_bits(
    train: Callable[..., FinetuneResult], tmp_path: Path, network: str, precision: str
) -> None:
    runtime = {"precision": precision}
    whole = train(network, runtime=runtime)
    assert same(whole, train(network, runtime=runtime))
    file = AnyStep(tmp_path / "complete.state")
    assert same(whole, train(network, file, runtime=runtime))
    for copy in file.copies:
        assert same(whole, train(network, StateFile(copy, "these", 0), runtime=runtime)), copy


def test_weights_equal_those_of_the_cpu(train: Callable[..., FinetuneResult]) -> None:
    """Equal in fp32, up to rounding."""
    on_device = train("resnet", runtime={"precision": "fp32"}, lr=1e-4, epochs=1)
    on_cpu = train("resnet", runtime={"precision": "fp32", "device": "cpu"}, lr=1e-4, epochs=1)
    assert on_device.scores["log_loss"] == pytest.approx(on_cpu.scores["log_loss"], abs=0.02)
    for key, tensor in on_cpu.state.items():
        assert torch.allclose(on_device.state[key].float(), tensor.float(), atol=2e-3), key


def test_logits_equal_those_of_the_cpu(pictures: list[Path], tmp_path: Path) -> None:
    name, *arguments = NETWORKS["vit"].split()
    settings = ModelSettings(model=name, model_args=tuple(arguments), pretrained="none", head="random", image_size=64)
    start = build_start(settings, CLASSES, seed=0)
    images = open_images(pictures, evaluation_geometry(start.preprocessing), "on", tmp_path)
    found = [
        compute_logits(start.classifier.to(runtime.device), images, start.preprocessing, runtime, 16)
        for runtime in (Runtime(requested_device=name, precision="fp32", threads=2) for name in ("cpu", "auto"))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
