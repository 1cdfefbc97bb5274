"""Rollout and relevance equal slow references that compute the attention matrices step by step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from soups.explain.attention import attention_matrices
from soups.explain.layers import UnsuitableMethod
from soups.explain.methods import coarse_maps
from soups.models.build import build_start
from soups.models.classifier import Classifier
from soups.models.settings import ModelSettings
from tests.explain.toys import convolutional, inputs_of, transformer, windowed


def by_hand(classifier: Classifier, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits (3,) of timm's toy transformer and the attention (heads, T, T) of its blocks, step by step."""
    body: Any = classifier.backbone
    tokens = torch.cat([body.cls_token, body.patch_embed(image[None])], dim=1) + body.pos_embed
    matrices = []
    for block in body.blocks:
        query, key, value = block.attn.qkv(block.norm1(tokens))[0].chunk(3, dim=-1)
        mixed = []
        for head in range(2):
            part = slice(16 * head, 16 * head + 16)
            matrix = (query[:, part] @ key[:, part].T / 4).softmax(dim=-1)
            matrices.append(matrix)
            mixed.append(matrix @ value[:, part])
        tokens = tokens + block.attn.proj(torch.cat(mixed, dim=-1))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return classifier.head(body.norm(tokens)[:, 0])[0], matrices


def test_rollout_is_the_product_of_halved_attention() -> None:
    classifier, (inputs, classes) = transformer(), inputs_of()
    for image, found in zip(inputs, coarse_maps(classifier, inputs, classes, "rollout"), strict=True):
        _, matrices = by_hand(classifier, image)
        first, second = (0.5 * (matrices[at] + matrices[at + 1]) / 2 + 0.5 * torch.eye(65) for at in (0, 2))
        expected = (second @ first)[0, 1:].reshape(8, 8).detach()
        assert torch.allclose(found, expected, rtol=1e-4)


def test_relevance_equals_a_slow_reference() -> None:
    classifier, (inputs, classes) = transformer(), inputs_of()
    found = coarse_maps(classifier, inputs, classes, "relevance")
    for image, label, one in zip(inputs, classes, found, strict=True):
        logits, matrices = by_hand(classifier, image)
        slopes = torch.autograd.grad(logits[label], matrices)
        weighted = [(matrix * slope).clamp(min=0).detach() for matrix, slope in zip(matrices, slopes, strict=True)]
        total = torch.eye(65)
        for at in (0, 2):
            total = total + (weighted[at] + weighted[at + 1]) / 2 @ total
        expected = total[0, 1:].reshape(8, 8)
        assert torch.allclose(one, expected, rtol=1e-3, atol=1e-6 * float(expected.max()))


def test_rollout_without_class_token_averages_the_patches() -> None:
    classifier = transformer(class_token=False, global_pool="avg")
    inputs, classes = inputs_of()
    _, matrices, pool = attention_matrices(classifier, inputs)
    halves = [(matrix.mean(dim=1) + torch.eye(64)) / 2 for matrix in matrices]
    expected = (halves[1] @ halves[0]).mean(dim=1).reshape(-1, 8, 8)
    assert pool is None and torch.allclose(coarse_maps(classifier, inputs, classes, "rollout"), expected, rtol=1e-4)


def test_recording_changes_no_logits(tiny_clip: Path) -> None:
    clip = build_start(ModelSettings(model=f"local-dir:{tiny_clip}"), ("red", "green"), seed=0).classifier
    pooled = transformer(class_token=False, global_pool="map")
    for classifier, side, tokens in ((transformer(), 32, 65), (clip, 16, 5), (pooled, 32, 64)):
        inputs = inputs_of(2)[0][:, :, :side, :side]
        logits, matrices, pool = attention_matrices(classifier, inputs)
        assert torch.allclose(logits, classifier(inputs), atol=1e-5)
        assert all(matrix.shape == (2, 2, tokens, tokens) for matrix in matrices)
        assert all(torch.allclose(matrix.sum(dim=-1), torch.ones(())) for matrix in matrices)
        assert (pool is not None) == (classifier is pooled)
        slopes = torch.autograd.grad(logits.sum(), matrices)
        assert all(bool(slope.any()) for slope in slopes)


def test_windowed_and_convolutional_networks_are_rejected() -> None:
    for classifier in (windowed(), convolutional()):
        with pytest.raises(UnsuitableMethod, match="not all blocks in which each patch attends to every other"):
            attention_matrices(classifier, inputs_of(2)[0])
