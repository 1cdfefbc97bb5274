"""Small networks and images for explanations: a patterned spot somewhere decides the class."""

from typing import Any

import numpy as np
import torch
from torch import nn

from soups.core.preprocessing import Preprocessing
from soups.models.classifier import Classifier

SIDE, SPOT = 32, 11
PREPROCESSING = Preprocessing(size=SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def convolutional(seed: int = 0, channels: int = 12) -> Classifier:
    """Two convolutions, global average pooling, a linear head; one ReLU works in place."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(3, channels, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        return Classifier(body, nn.Linear(channels, 3), normalise_features=False).eval()


def transformer(seed: int = 0, depth: int = 2, **more: Any) -> Classifier:
    """timm's vision transformer in small: 32 features, patches of 4."""
    import timm

    settings = {"img_size": SIDE, "patch_size": 4, "embed_dim": 32, "num_heads": 2, "depth": depth} | more
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = timm.create_model("vit_tiny_patch16_224", num_classes=0, **settings)
        return Classifier(body, nn.Linear(32, 3), normalise_features=False).eval()


def windowed(seed: int = 0) -> Classifier:
    """timm's Swin in small: maps whose channels come last."""
    import timm

    settings: dict[str, Any] = {"img_size": SIDE, "window_size": 4, "depths": (1, 1), "num_heads": (2, 2)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, embed_dim=16, **settings)
        return Classifier(body, nn.Linear(32, 3), normalise_features=False).eval()


def inputs_of(count: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Random inputs and classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator), torch.arange(count) % 3


def spots(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with one patterned spot: pixels (N, 32, 32, 3) uint8, classes (N,), centres (N, 2) row and column.

    Lines across, lines down or squares: blurred, all three are the same grey.
    """
    rng = np.random.default_rng(seed)
    pixels = rng.normal(128, 25, (count, SIDE, SIDE))
    labels, corners = rng.integers(0, 3, count), rng.integers(0, SIDE - SPOT + 1, (count, 2))
    rows, columns = np.indices((SIDE, SIDE)) // 2 % 2
    patterns = np.stack([rows, columns, rows ^ columns]) * 120 + 68
    for image, label, (top, left) in zip(pixels, labels, corners, strict=True):
        place = slice(top, top + SPOT), slice(left, left + SPOT)
        image[place] = patterns[label][place] + rng.normal(0, 15, (SPOT, SPOT))
    grey = pixels.clip(0, 255).astype(np.uint8)
    return grey[..., None].repeat(3, axis=3), labels.astype(np.int64), corners + (SPOT - 1) / 2


def trained(classifier: Classifier, steps: int, rate: float) -> Classifier:
    """The classifier after learning spots; always the same."""
    from soups.explain.methods import model_inputs

    optimiser = torch.optim.Adam(classifier.parameters(), lr=rate)
    classifier.train()
    pixels, labels, _ = spots(512, seed=0)
    inputs, classes = model_inputs(classifier, pixels, labels, PREPROCESSING)
    for step in range(steps):
        rows = torch.arange(64) + 64 * step
        rows %= 512
        loss = nn.functional.cross_entropy(classifier(inputs[rows]), classes[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad()
    return classifier.eval()
