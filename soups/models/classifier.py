"""The network that is fine-tuned, averaged and evaluated: a backbone and a linear head."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from soups.models.stages import parameter_layers


class Classifier(nn.Module):
    """Computes `head(features)`, where CLIP's features are scaled to length 1 first.

    State-dict keys are `backbone.*`, `head.weight` (C, D) and `head.bias` (C,).

    Args:
        backbone: (N, 3, H, W) float → (N, D) features.
        head: (N, D) → (N, C).
        normalise_features: scale each feature vector to length 1 before the head, as CLIP was trained.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear, normalise_features: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.normalise_features = normalise_features

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D), of length 1 with `normalise_features`.

        Args:
            images: (N, 3, H, W) float, RGB, normalised with the card's mean and standard deviation.
        """
        features = self.backbone(images)
        return F.normalize(features, dim=-1) if self.normalise_features else features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits (N, C) of images (N, 3, H, W), float, RGB, normalised as for `features`."""
        return self.head(self.features(images))

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Returns a function from parameter name to layer; timm's optimisers use it for layer-wise decay."""
        return parameter_layers(self.backbone).__getitem__
