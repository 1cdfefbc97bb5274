"""The baseline: a small convolutional network to compare larger ones with."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn


class Baseline(nn.Module):
    """Blocks of 3 × 3 convolution, BatchNorm, ReLU and 2 × 2 max-pooling, then global average pooling.

    The head follows global pooling, so linear maps of the last block are class activation maps. `num_features` and
    `group_matcher` are named as in timm.

    Args:
        widths: channels of each block.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for before, after in pairwise((3, *widths)):
            convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)  # BatchNorm has the bias.
            self.blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)))
        self.num_features = widths[-1]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns timm's rules for grouping parameters: each block is one stage."""
        return {"blocks": r"^blocks\.(\d+)"}

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the feature map (N, D, H', W') of images (N, 3, H, W) float, normalised."""
        return self.blocks(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D) of images (N, 3, H, W) float, normalised, with H, W ≥ 2^blocks."""
        return self.forward_features(images).mean(dim=(2, 3))
