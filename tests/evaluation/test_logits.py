"""Logits: the same as a plain forward pass, however the network's inside is turned for speed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from soups.core.preprocessing import normalise
from soups.data.images.cache import Images
from soups.data.images.geometry import evaluation_geometry
from soups.evaluation.logits import compute_logits
from soups.models.build import build_start
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
def test_the_order_of_dimensions_is_turned_for_autocast_and_put_back(
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
