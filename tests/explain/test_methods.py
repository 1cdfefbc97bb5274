"""Maps equal slow versions of their formulas, and find evidence in a known place."""

from typing import Any

import numpy as np
import pytest
import torch

from soups.core.errors import UsageError
from soups.explain.methods import coarse_maps, explain, upsample_maps
from soups.explain.settings import NAMES
from soups.models.classifier import Classifier
from tests.explain.toys import (
    PREPROCESSING,
    SIDE,
    SPOT,
    convolutional,
    inputs_of,
    spots,
    trained,
    transformer,
    windowed,
)


def last_map_and_logits(classifier: Classifier, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, h, w) activations of the toy's last map, a leaf, and the logits (3,) computed from them, by hand."""
    body: Any = classifier.backbone
    if isinstance(body, torch.nn.Sequential):
        features = body[:4](image[None]).detach().requires_grad_()
        return features, classifier.head(features.mean(dim=(2, 3)))[0]
    tokens = body.patch_embed(image[None])
    tokens = torch.cat([body.cls_token, tokens], dim=1) + body.pos_embed
    tokens = body.blocks[0](tokens)
    features = body.blocks[1].norm1(tokens).detach().requires_grad_()
    tokens = tokens + body.blocks[1].attn(features)
    tokens = tokens + body.blocks[1].mlp(body.blocks[1].norm2(tokens))
    return features, classifier.head(body.norm(tokens)[:, 0])[0]


def positions(features: torch.Tensor) -> torch.Tensor:
    """(C, h, w) of a map (1, C, h, w), or of tokens (1, 1 + 64, C) whose first is the class token."""
    return features[0] if features.ndim == 4 else features[0, 1:].T.reshape(-1, 8, 8)


def grad_cam(features: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """Selvaraju et al. 2017, equations 1 and 2, without the ReLU: one channel after the other."""
    total = torch.zeros(features.shape[1:])
    for channel, slope in zip(features, slopes, strict=True):
        total += sum(value for row in slope for value in row) / slope.numel() * channel
    return total


def grad_cam_plus_plus(features: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """Chattopadhay et al. 2018, equations 5 and 19, without the last ReLU; 1e-6 keeps the denominator from 0."""
    total = torch.zeros(features.shape[1:])
    for channel, slope in zip(features, slopes, strict=True):
        weight = 0.0
        for g in slope.flatten().tolist():
            alpha = g**2 / (2 * g**2 + float(channel.sum()) * g**3 + 1e-6) if g != 0 else 0.0
            weight += alpha * max(g, 0.0)
        total += weight * channel
    return total


@pytest.mark.parametrize("network", [convolutional, transformer])
@pytest.mark.parametrize(("method", "formula"), [("gradcam", grad_cam), ("gradcam++", grad_cam_plus_plus)])
def test_maps_equal_the_formulas(network: Any, method: str, formula: Any) -> None:
    classifier, (inputs, classes) = network(), inputs_of()
    found = coarse_maps(classifier, inputs, classes, method)
    for image, label, one in zip(inputs, classes, found, strict=True):
        features, logits = last_map_and_logits(classifier, image)
        (slopes,) = torch.autograd.grad(logits[label], features)
        with torch.no_grad():
            expected = formula(positions(features), positions(slopes))
        assert torch.allclose(one, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("network", [convolutional, windowed])
def test_cam_equals_grad_cam_times_the_number_of_positions(network: Any) -> None:
    classifier, (inputs, classes) = network(), inputs_of()
    cam, gradients = (coarse_maps(classifier, inputs, classes, method) for method in ("cam", "gradcam"))
    assert cam.abs().max() > 0.01
    assert torch.allclose(cam, gradients * cam[0].numel(), rtol=1e-4, atol=1e-6)
    logits = classifier(inputs).gather(1, classes[:, None])[:, 0]
    parts = cam.mean(dim=(1, 2)) + classifier.head.bias[classes]
    assert torch.allclose(parts, logits, atol=1e-5)  # It is the logit, taken apart.


@pytest.mark.parametrize("network", [convolutional, transformer])
def test_explaining_leaves_the_model_unchanged(network: Any) -> None:
    classifier, (inputs, classes) = network().train(), inputs_of()
    first = next(classifier.parameters()).requires_grad_(False)
    classifier.head.bias.grad = torch.ones(3)
    classifier.backbone.eval()
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    for method in NAMES:
        try:
            maps = coarse_maps(classifier, inputs, classes, method)
        except UsageError:
            continue
        again = coarse_maps(classifier, inputs, classes, method)
        assert maps.dtype == torch.float32 and torch.equal(maps, again)
    assert classifier.training and not classifier.backbone.training
    assert not first.requires_grad and classifier.head.weight.requires_grad
    assert torch.equal(classifier.head.bias.grad, torch.ones(3)) and classifier.head.weight.grad is None
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())
    assert not any(module._forward_hooks for module in classifier.modules())


def found_share(classifier: Classifier, method: str, reach: float, images: int = 60) -> float:
    """How often the map's peak is at most `reach` pixels outside the spot that decides the class."""
    pixels, labels, centres = spots(images, seed=5)
    maps = explain(classifier, pixels, labels, PREPROCESSING, method)
    assert maps.shape == (images, SIDE, SIDE) and maps.dtype == np.float32
    assert maps.min() == 0 and maps.max() == 1
    peaks = np.array([np.unravel_index(heat.argmax(), heat.shape) for heat in maps])
    return float((np.abs(peaks - centres).max(axis=1) <= SPOT / 2 + reach).mean())


@pytest.fixture(scope="module")
def learned() -> Classifier:
    return trained(convolutional(), steps=60, rate=1e-2)


@pytest.mark.parametrize("method", ["cam", "gradcam", "gradcam++", "layercam"])
def test_the_peak_is_where_the_evidence_is(learned: Classifier, method: str) -> None:
    assert found_share(learned, method, reach=0) >= 0.95


def test_the_peak_of_a_transformer_is_where_the_evidence_is() -> None:
    learned = trained(transformer(), steps=100, rate=1e-3)
    assert found_share(learned, "rollout", reach=4) >= 0.9  # A patch is 4 pixels wide.
    assert found_share(learned, "relevance", reach=4) >= 0.6  # By chance it is about 0.35.


def test_an_unsuitable_method_names_the_suitable_ones() -> None:
    inputs, classes = inputs_of(1)
    with pytest.raises(UsageError) as error:
        coarse_maps(convolutional(), inputs, classes, "rollout")
    assert "method rollout does not suit this model" in str(error.value)
    assert "one of cam, gradcam, gradcam++, layercam" in str(error.value)
    with pytest.raises(UsageError) as error:
        coarse_maps(transformer(depth=1), inputs, classes, "cam")
    assert "does not follow the global mean of layer backbone.blocks.0.norm1" in str(error.value)
    assert "one of gradcam, gradcam++, layercam, rollout, relevance" in str(error.value)
    with pytest.raises(UsageError, match=r"did you mean 'gradcam'\?"):
        coarse_maps(convolutional(), inputs, classes, "gradcm")
    with pytest.raises(UsageError, match="method rollout has no target layer"):
        coarse_maps(transformer(depth=1), inputs, classes, "rollout", "norm")


def test_a_layer_without_gradient_is_rejected() -> None:
    inputs, classes = inputs_of(1)
    with pytest.raises(UsageError, match=r"the logits do not depend on the feature map of layer backbone\.blocks\.1"):
        coarse_maps(transformer(), inputs, classes, "gradcam", "blocks.1")


def test_upsampled_maps_are_scaled_to_zero_and_one() -> None:
    maps = torch.tensor([[[-5.0, 1.0], [2.0, 4.0]], [[3.0, 3.0], [3.0, 3.0]], [[-1.0, -2.0], [-1.0, -3.0]]])
    large = upsample_maps(maps, 6)
    assert large.shape == (3, 6, 6) and large[0].min() == 0 and large[0].max() == 1
    assert large[0, 0, 0] == 0 and large[0, 5, 5] == 1 and large[0, 5, 0] == pytest.approx(0.5)
    assert not large[1:].any()
