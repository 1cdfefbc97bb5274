"""Multiply-adds of networks that can be counted by hand."""

import pytest
import torch
from torch import nn

from soups.models.flops import count_multiply_adds


def test_convolutions_and_linear_layers_are_counted() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 16 × 16 places, 8 · 3 · 3 · 3 each
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),  # 8 × 8 places, 8 · 3 · 3 each
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).train()
    assert count_multiply_adds(network, 16) == 16 * 16 * 8 * 27 + 8 * 8 * 8 * 9 + 8 * 5
    assert not network.training


class Patches(nn.Module):
    """Attention between four patches."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 16, 8, stride=8), attention

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.attention(tokens)


class Attention(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])


class Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


EMBEDDED, PRODUCTS, PROJECTED = 4 * 16 * 3 * 64, 2 * 4 * 4 * 16, 4 * 16 * 16


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        (Attention(), PRODUCTS),
        (Multihead(), PRODUCTS + 4 * PROJECTED),
        (
            nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True),
            PRODUCTS + 4 * PROJECTED + 2 * 4 * 16 * 32,
        ),
    ],
    ids=["attention", "multihead", "layer"],
)
def test_attention_is_counted_in_each_implementation(attention: nn.Module, expected: int) -> None:
    assert count_multiply_adds(Patches(attention), 16) == EMBEDDED + expected


def test_counting_works_without_gradients() -> None:
    with torch.no_grad():
        assert count_multiply_adds(Patches(Multihead()), 16) == EMBEDDED + PRODUCTS + 4 * PROJECTED
