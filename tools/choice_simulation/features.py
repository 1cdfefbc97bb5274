"""The network of the simulation: its frozen stages with their cached features, and the part that is fine-tuned."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from soups.checkpoints.checkpoint import read_state
from soups.core.errors import DataError
from soups.files.atomic import make_folder, write_array
from tools.choice_simulation.settings import SimulationSettings

logger = logging.getLogger(f"soups.{__name__}")

VIEWS = 6
"""Cached views of each training image: the image itself, and five that are shifted and perhaps mirrored."""
_NETWORK = "tf_efficientnet_lite0"
_BATCH = 250
_SHIFT = 4 / 32  # Largest shift of a view, as a share of the side.


@dataclass(frozen=True)
class Features:
    """Features of the frozen stages."""

    train: np.ndarray
    """(VIEWS, N, C, H, W) float32."""
    train_labels: np.ndarray
    """(N,) int64."""
    test: np.ndarray
    """(M, C, H, W) float32."""
    test_labels: np.ndarray
    """(M,) int64."""


def build_network(settings: SimulationSettings, classes: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the frozen stages, and the last stage with a head of random weights; both in evaluation mode.

    Raises:
        DataError: the start's tensors are not those of the network.
    """
    import timm

    torch.manual_seed(settings.seed)
    network: Any = timm.create_model(_NETWORK, pretrained=False)
    if settings.pretrained is not None:
        expected, given = network.state_dict(), read_state(settings.pretrained)
        if [tensor.shape for tensor in expected.values()] != [tensor.shape for tensor in given.values()]:
            raise DataError(
                f"{settings.pretrained}: not the weights of {_NETWORK}", expected="its tensors in timm's order"
            )
        network.load_state_dict(dict(zip(expected, given.values(), strict=True)))
    network.reset_classifier(classes)
    *frozen, last = network.blocks
    trunk = torch.nn.Sequential(network.conv_stem, network.bn1, *frozen)
    tail = torch.nn.Sequential(last, network.conv_head, network.bn2, network.global_pool, network.classifier)
    return trunk.eval(), tail.eval()


def load_features(settings: SimulationSettings) -> tuple[Features, torch.nn.Module]:
    """Return the features of all images, computed once, and the start of all fine-tunes.

    Raises:
        DataError: the folders have no images, or too few of a class.
    """
    classes = sorted(folder.name for folder in (settings.data / "train").glob("*/"))
    if not classes:
        raise DataError(f"{settings.data}: no classes", expected="train/<class>/ and test/<class>/ with images")
    generator = np.random.default_rng([settings.seed, 0])
    train, train_labels = _draw_images(settings, classes, generator)
    tests = [sorted((settings.data / "test" / name).iterdir()) for name in classes]
    test_labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in tests])
    trunk, tail = build_network(settings, len(classes))
    path = settings.output / "train_features.npy"
    if not path.exists():
        make_folder(settings.output)
        logger.info("features of %d training images in %d views", len(train), VIEWS)
        views = [_compute_features(trunk, train, settings.image_size, generator if i else None) for i in range(VIEWS)]
        write_array(path, np.stack(views))
    test_path = settings.output / "test_features.npy"
    if not test_path.exists():
        logger.info("features of %d test images", len(test_labels))
        everything = [path for paths in tests for path in paths]
        write_array(test_path, _compute_features(trunk, everything, settings.image_size, None))
    return Features(np.load(path), train_labels, np.load(test_path), test_labels), copy.deepcopy(tail)


def _draw_images(
    settings: SimulationSettings, classes: list[str], generator: np.random.Generator
) -> tuple[list[Path], np.ndarray]:
    each = settings.train_images // len(classes)
    drawn: list[Path] = []
    for name in classes:
        paths = sorted((settings.data / "train" / name).iterdir())
        if len(paths) < each:
            raise DataError(
                f"{settings.data / 'train' / name}: too few images", expected=str(each), found=str(len(paths))
            )
        drawn += [paths[row] for row in np.sort(generator.choice(len(paths), each, replace=False))]
    return drawn, np.repeat(np.arange(len(classes)), each)


def _compute_features(
    trunk: torch.nn.Module, paths: list[Path], size: int, generator: np.random.Generator | None
) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([trunk(batch).numpy() for batch in _read_batches(paths, size, generator)])


def _read_batches(paths: list[Path], size: int, generator: np.random.Generator | None) -> Iterator[torch.Tensor]:
    """Yield (B, 3, size, size) float32 batches in [-1, 1]; with a generator, shifted and half of them mirrored."""
    for begin in range(0, len(paths), _BATCH):
        images = [np.asarray(Image.open(path).convert("RGB")) for path in paths[begin : begin + _BATCH]]
        if generator is not None:
            images = [_shift_and_mirror(image, generator) for image in images]
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        yield functional.interpolate(batch, size=(size, size), mode="bilinear", align_corners=False)


def _shift_and_mirror(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    margin = round(_SHIFT * image.shape[0])
    top, left, mirrored = *generator.integers(0, 2 * margin, 2, endpoint=True), generator.integers(2)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    view = padded[top : top + image.shape[0], left : left + image.shape[1]]
    return view[:, ::-1] if mirrored else view
