"""Logits: equal to those of a plain forward pass; the files that cache them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing, normalise
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry
from soups.evaluation.logits import EvaluationSet, compute_logits, image_stamps, logits_path, read_logits, store_logits
from soups.files.atomic import fingerprint
from soups.models.build import build_start
from soups.models.classifier import Classifier
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.runtime.devices import Precision, Runtime, autocast

COUNT = 7


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, start: Start) -> Images:
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    for path in paths:
        colour = generator.integers(0, 200, 3)
        Image.fromarray((colour + generator.integers(0, 56, (18, 20, 3))).astype(np.uint8)).save(path)
    return Images(paths, evaluation_geometry(start.preprocessing))


@pytest.fixture(scope="module")
def start(tiny_clip: Path) -> Start:
    start = build_start(ModelSettings(model=f"local-dir:{tiny_clip}", head="random"), ["a", "b", "c"], seed=0)
    with torch.no_grad():
        start.classifier.head.weight *= 100  # So that images differ by more than rounding.
    return start


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_are_those_of_a_plain_forward_pass(start: Start, images: Images, precision: Precision) -> None:
    runtime = Runtime(precision=precision, threads=torch.get_num_threads())
    inputs = normalise(torch.from_numpy(images.take(range(COUNT))), start.preprocessing)
    with torch.no_grad(), autocast(runtime):
        expected = start.classifier.eval()(inputs).float().numpy()
    logits = compute_logits(start.classifier, images, start.preprocessing, runtime, batch_size=3)
    assert logits.shape == (COUNT, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 if precision == "fp32" else 2e-2)
    assert np.ptp(expected, axis=0).max() > 0.5  # Otherwise the tolerance would forgive everything.


@pytest.mark.parametrize(("precision", "positions_first"), [("fp32", False), ("bf16", True)])
def test_sequence_first_is_set_under_autocast_and_restored(
    start: Start, images: Images, precision: Precision, positions_first: bool
) -> None:
    attentions = [module for module in start.classifier.modules() if isinstance(module, nn.MultiheadAttention)]
    seen: list[bool] = []
    handle = attentions[0].register_forward_pre_hook(lambda module, inputs: seen.append(module.batch_first))
    runtime = Runtime(precision=precision, threads=torch.get_num_threads())
    compute_logits(start.classifier, images, start.preprocessing, runtime, batch_size=COUNT)
    handle.remove()
    assert seen == [not positions_first]
    assert all(module.batch_first for module in attentions)
    assert start.classifier.backbone.transformer.batch_first


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


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_logits_are_those_of_each_image_alone(validation: EvaluationSet, batch_size: int) -> None:
    model = classifier()
    logits = compute_logits(model, validation.images, PREPROCESSING, RUNTIME, batch_size)
    assert logits.dtype == np.float32
    assert logits.shape == (11, 3)
    assert np.allclose(logits, slow_logits(model, validation), atol=1e-5)


def test_cached_logits_are_read_only_for_equal_weights_images_and_precision(
    validation: EvaluationSet, tmp_path: Path
) -> None:
    path = logits_path(tmp_path, "ab" * 32, "val", validation.paths, RUNTIME)
    logits = np.ones((11, 3), dtype=np.float32)
    assert read_logits(path, 11, 3) is None
    store_logits(path, logits)
    found = read_logits(path, 11, 3)
    assert found is not None and np.array_equal(found, logits)
    assert read_logits(path, 12, 3) is None
    others = {
        logits_path(tmp_path, "cd" * 32, "val", validation.paths, RUNTIME),
        logits_path(tmp_path, "ab" * 32, "test", validation.paths, RUNTIME),
        logits_path(tmp_path, "ab" * 32, "val", validation.paths[:-1], RUNTIME),
        logits_path(tmp_path, "ab" * 32, "val", validation.paths, Runtime(precision="bf16", threads=1)),
    }
    assert len(others | {path}) == 5
    path.write_bytes(path.read_bytes()[:50])
    assert read_logits(path, 11, 3) is None
    validation.paths[0].unlink()
    with pytest.raises(DataError, match="the image is missing"):
        logits_path(tmp_path, "ab" * 32, "val", validation.paths, RUNTIME)


def test_image_stamps_of_all_images_and_of_parts(validation: EvaluationSet) -> None:
    def slowly(paths: Sequence[Path]) -> str:
        return fingerprint([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths])[:8]

    paths = validation.paths
    for size in (1, 4, 11, 20):
        parts = [slowly(paths[start : start + size]) for start in range(0, 11, size)]
        assert image_stamps(paths, size) == (slowly(paths), parts)
    assert image_stamps([], 1) == (slowly([]), [])
