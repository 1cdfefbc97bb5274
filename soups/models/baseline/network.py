"""The small convolutional network that larger ones are compared with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Baseline(nn.Module):
    """Blocks of 3 × 3 convolution, BatchNorm, ReLU and 2 × 2 max-pooling, then the mean over all places.

    Linear maps of its last block are class activation maps, since the head follows global pooling. It keeps to timm's
    names for what is asked of any backbone: `num_features`, `group_matcher`.

    Args:
        widths: channels of each block.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        blocks = [_block(before, after) for before, after in zip((3, *widths), widths, strict=False)]
        self.blocks = nn.Sequential(*blocks)
        self.num_features = widths[-1]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """What belongs to which stage, as timm writes it: every block is one."""
        return {"blocks": r"^blocks\.(\d+)"}

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, D, H', W') of each place, from images (N, 3, H, W) float, normalised."""
        return self.blocks(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, D) of images (N, 3, H, W) float, normalised, of any size from 2^blocks on."""
        return self.forward_features(images).mean(dim=(2, 3))


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),  # BatchNorm shifts.
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
