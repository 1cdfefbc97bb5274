"""Helpers for tests of hub folders: models with random weights, and their logits by this package and by a library."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from soups.checkpoints.card import Card
from soups.core.preprocessing import normalise
from soups.data.images.geometry import evaluation_geometry, resize_and_crop
from soups.models.build import build_start
from soups.models.classifier import Classifier
from soups.models.hub_folder import find_format
from soups.models.settings import ModelSettings

CLASSES = ("cat", "dog/old", "bird")


def build_model(model: str, **more: object) -> tuple[Classifier, Card]:
    """Returns a network with random weights, including those and the bias of its head."""
    weights = {} if model.startswith("local-dir:") else {"pretrained": "none"}
    start = build_start(ModelSettings.model_validate({"model": model, **weights, **more}), CLASSES, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in start.classifier.head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    card = Card(
        kind="fine-tune",
        architecture=start.architecture,
        classes=CLASSES,
        preprocessing=start.preprocessing,
        scores={"val": {"accuracy": 0.5}},
        training={"precision": "fp32"},
    )
    return start.classifier, card


def compute_logits(classifier: Classifier, card: Card, paths: list[Path]) -> np.ndarray:
    """Returns the logits of image files, computed by this package."""
    geometry = evaluation_geometry(card.preprocessing)
    pixels = np.stack([resize_and_crop(np.array(Image.open(path).convert("RGB")), geometry) for path in paths])
    with torch.inference_mode():
        return classifier(normalise(torch.from_numpy(pixels), card.preprocessing)).numpy()


def assert_library_gives_the_logits(classifier: Classifier, card: Card, folder: Path, pictures: list[Path]) -> None:
    expected = compute_logits(classifier, card, pictures)
    for row, path in zip(expected, pictures, strict=True):
        with Image.open(path) as picture:
            found = find_format(card, "it").reference_logits(folder, picture)
        assert found.shape == (1, 3) and found.dtype == np.float32
        np.testing.assert_allclose(found[0], row, atol=1e-5 * max(1.0, np.abs(expected).max()))
