"""The baseline network against its formula."""

import torch
from torch import nn

from soups.models.build import build_start
from soups.models.settings import ModelSettings

CLASSES = ("cat", "dog")


def build_start_of(**changes: object):  # type: ignore[no-untyped-def]
    return build_start(ModelSettings.model_validate({"model": "baseline", **changes}), CLASSES, seed=3)


def compute_by_formula(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Returns the features of the network in evaluation mode, computed step by step."""
    for block in range(3):
        images = nn.functional.conv2d(images, state[f"blocks.{block}.0.weight"], padding=1)
        mean, variance, weight, bias = (
            state[f"blocks.{block}.1.{name}"].view(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        images = (images - mean) / (variance + 1e-5).sqrt() * weight + bias
        images = images.clamp(min=0)
        images = torch.stack(
            [
                images[:, :, i : images.shape[2] // 2 * 2 : 2, j : images.shape[3] // 2 * 2 : 2]
                for i in (0, 1)
                for j in (0, 1)
            ]
        ).amax(0)
    return images.mean(dim=(2, 3))


def test_the_network_equals_its_description() -> None:
    start = build_start_of(image_size=24)
    state = start.classifier.backbone.state_dict()
    pictures = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = compute_by_formula(state, pictures)
        torch.testing.assert_close(start.classifier.features(pictures), expected)
        torch.testing.assert_close(start.classifier(pictures), expected @ start.classifier.head.weight.T)
    assert (start.preprocessing.size, start.classifier.head.in_features) == (24, 128)
    assert sum(p.numel() for p in start.classifier.backbone.parameters()) == 27 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 448
