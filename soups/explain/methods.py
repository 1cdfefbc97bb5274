"""The explanation methods by name, and maps of a class's evidence computed with them.

The formulas of Grad-CAM, Grad-CAM++ and LayerCAM are the grad-cam library's; attention maps are in `attention`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from soups.core.errors import EnvironmentFailure, UsageError
from soups.core.packages import require_package
from soups.core.preprocessing import Preprocessing, normalise
from soups.core.progress import track
from soups.explain.attention import relevance, rollout
from soups.explain.layers import Layer, UnsuitableMethod, find_layer, named_layer
from soups.explain.settings import AUTO, MapSettings, check_method

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_BATCH = 16
"""Images in one pass."""


@dataclass(frozen=True)
class Method:
    """An explanation method."""

    maps: "Callable[[Classifier, torch.Tensor, torch.Tensor, Any], torch.Tensor]"
    """(classifier, inputs (N, 3, S, S), classes (N,), layer) → (N, h, w) float32, at the resolution of the layer."""
    reads_layer: bool = True
    """Whether the map is of one layer's output; otherwise it is of all attention matrices, and the layer is None."""
    class_specific: bool = True
    """Whether the map depends on the class."""


def _gradient_maps(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: Layer, formula: str
) -> torch.Tensor:
    """Returns the maps of one of grad-cam's classes, applied to a layer's activations and gradients."""
    require_package("pytorch_grad_cam", formula, "grad-cam")
    import pytorch_grad_cam

    activations, gradients = activations_and_gradients(classifier, inputs, classes, layer)
    # Only the formula: grad-cam's own run adds to the weights' gradients, reads activations that an in-place ReLU has
    # changed, and suppresses errors.
    cam = getattr(pytorch_grad_cam, formula)(classifier, target_layers=[])
    arrays = activations.cpu().numpy(), gradients.cpu().numpy()
    return torch.from_numpy(cam.get_cam_image(inputs, layer.module, classes, *arrays, False))


def _class_activation(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: Layer
) -> torch.Tensor:
    """Returns class activation maps.

    Source: Zhou et al. 2016, "Learning deep features for discriminative localization", equation 2.

    The map is Σ_k w_k · f_k(x, y), with the head's weights of the class. This is a decomposition of the logit only if
    the head follows the global mean of these feature maps, which is checked on the inputs.
    """
    features, _ = activations_and_gradients(classifier, inputs, classes, layer)
    head = classifier.head
    with torch.no_grad():
        logits = classifier(inputs)
        fits = features.shape[1] == head.in_features and torch.allclose(
            head(features.mean(dim=(2, 3))), logits, rtol=1e-3, atol=1e-4 * (1 + float(logits.abs().max()))
        )
        if not fits:
            raise UnsuitableMethod(f"its head does not follow the global mean of layer {layer.name}")
        return torch.einsum("nk,nkhw->nhw", head.weight[classes], features)


METHODS: dict[str, Method] = {
    "cam": Method(_class_activation),
    "gradcam": Method(partial(_gradient_maps, formula="GradCAM")),
    "gradcam++": Method(partial(_gradient_maps, formula="GradCAMPlusPlus")),
    "layercam": Method(partial(_gradient_maps, formula="LayerCAM")),
    "rollout": Method(rollout, reads_layer=False, class_specific=False),
    "relevance": Method(relevance, reads_layer=False),
}


def activations_and_gradients(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: Layer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a layer's output and the gradient of the classes' logits by it, both (N, C, h, w) float32.

    The graph begins at the layer's output.

    Raises:
        UnsuitableMethod: the layer outputs no feature map, or the logits do not depend on the map.
    """
    outputs: list[torch.Tensor] = []

    def replace_by_leaf(module: torch.nn.Module, inputs: object, output: object) -> torch.Tensor:
        layer.to_maps(output)
        assert isinstance(output, torch.Tensor)
        outputs.append(output.detach().clone().requires_grad_())
        return outputs[-1].clone()  # A copy, because later modules may work in place.

    handle = layer.module.register_forward_hook(replace_by_leaf)
    try:
        with torch.enable_grad():
            logits = classifier(inputs)
    finally:
        handle.remove()
    if not outputs:
        raise UnsuitableMethod(f"layer {layer.name} is not run")
    score = logits.gather(1, classes[:, None]).sum()
    gradient = torch.autograd.grad(score, outputs[-1], allow_unused=True)[0] if score.requires_grad else None
    gradients = None if gradient is None else layer.to_maps(gradient)
    if gradients is None or not bool(gradients.any()):
        raise UnsuitableMethod(
            f"the logits do not depend on the feature map of layer {layer.name}; choose an earlier layer"
        )
    return layer.to_maps(outputs[-1].detach()), gradients


@contextmanager
def frozen_evaluation(classifier: "Classifier") -> Iterator[None]:
    """Sets evaluation mode and freezes all weights within the block; restores both afterwards."""
    modes = {module: module.training for module in classifier.modules()}
    trainable = [weight for weight in classifier.parameters() if weight.requires_grad]
    for weight in trainable:
        weight.requires_grad_(False)
    classifier.eval()
    try:
        yield
    finally:
        for weight in trainable:
            weight.requires_grad_(True)
        for module, training in modes.items():
            module.training = training


def coarse_maps(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, method: str, target_layer: str | None = None
) -> torch.Tensor:
    """Returns the maps of a method's formula, before scaling and upsampling; computed in float32.

    Args:
        classifier: on the device of the inputs; its state is restored.
        inputs: (N, 3, S, S) float32, normalised.
        classes: (N,) int64, the classes whose logits are explained.
        method: one of `METHODS`.
        target_layer: name of a module of the backbone; None: the layer of `find_layer`.

    Returns:
        (N, h, w) float32 on the CPU, at the resolution of the layer or of the patches.

    Raises:
        UsageError: the method or layer is unknown or cannot be applied to the network; the message lists the methods
            that can.
    """
    check_method(method)
    if target_layer is not None and not METHODS[method].reads_layer:
        raise UsageError(f"method {method} has no target layer", found=target_layer, next_step="leave it out")
    with frozen_evaluation(classifier):
        try:
            return _compute_maps(classifier, inputs, classes, method, target_layer)
        except UnsuitableMethod as reason:
            suitable = [name for name in METHODS if _is_suitable(classifier, inputs[:1], classes[:1], name)]
            raise UsageError(
                f"method {method} does not suit this model: {reason}",
                expected=f"one of {', '.join(suitable)}" if suitable else "",
                next_step="" if target_layer is None else f"leave the target layer {target_layer} out",
            ) from None


def _compute_maps(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, method: str, target_layer: str | None
) -> torch.Tensor:
    layer = _layer_of_method(classifier, inputs, method, target_layer)
    return METHODS[method].maps(classifier, inputs, classes, layer).detach().float().cpu()


def _layer_of_method(
    classifier: "Classifier", inputs: torch.Tensor, method: str, target_layer: str | None
) -> Layer | None:
    """Returns the layer that a method reads: the named one, else that of `find_layer`; None for all attention."""
    if not METHODS[method].reads_layer:
        return None
    return find_layer(classifier, inputs) if target_layer is None else named_layer(classifier, target_layer)


def _is_suitable(classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, method: str) -> bool:
    try:
        _compute_maps(classifier, inputs, classes, method, None)
    except (UnsuitableMethod, EnvironmentFailure):
        return False
    return True


def resolve_method(
    classifier: "Classifier", pixels: np.ndarray, preprocessing: Preprocessing, settings: MapSettings
) -> str:
    """Returns the method; `auto` means relevance if the network's attention can be read, else gradcam++.

    On the ViTs that were measured, gradients at one layer located evidence no better than chance; relevance did better.
    """
    if settings.method != AUTO:
        return settings.method
    if settings.target_layer is not None:
        return "gradcam++"
    with frozen_evaluation(classifier):
        inputs, classes = model_inputs(classifier, pixels[:1], np.zeros(1), preprocessing)
        return "relevance" if _is_suitable(classifier, inputs, classes, "relevance") else "gradcam++"


def upsample_maps(maps: torch.Tensor, side: int) -> np.ndarray:
    """Upsamples maps to the size of the input and scales each to [0, 1]: (N, h, w) → (N, side, side) float32.

    Negative evidence becomes 0 first, as in Grad-CAM. Interpolation is bilinear. The minimum becomes 0 and the maximum
    1; a constant map becomes 0.
    """
    positive = maps.clamp(min=0)[:, None]
    large = F.interpolate(positive, size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    span = high - low
    return torch.where(span > 1e-6 * high, (large - low) / span.clamp(min=1e-30), torch.zeros(())).numpy()


def explain(
    classifier: "Classifier",
    pixels: np.ndarray,
    classes: np.ndarray,
    preprocessing: Preprocessing,
    method: str,
    target_layer: str | None = None,
) -> np.ndarray:
    """Returns maps of each image's evidence for a class.

    Args:
        classifier: on any device; its state is restored.
        pixels: (N, S, S, 3) uint8 at the model's evaluation geometry.
        classes: (N,) int64, the classes whose logits are explained.
        preprocessing: the model's preprocessing.
        method: one of `METHODS`.
        target_layer: as in `coarse_maps`.

    Returns:
        (N, S, S) float32 in [0, 1].

    Raises:
        UsageError: as `coarse_maps`.
    """
    maps = np.empty(pixels.shape[:3], dtype=np.float32)
    for begin in track(range(0, len(pixels), _BATCH), "explaining"):
        part = slice(begin, begin + _BATCH)
        inputs, targets = model_inputs(classifier, pixels[part], classes[part], preprocessing)
        maps[part] = upsample_maps(coarse_maps(classifier, inputs, targets, method, target_layer), pixels.shape[1])
    return maps


def model_inputs(
    classifier: "Classifier", pixels: np.ndarray, classes: np.ndarray, preprocessing: Preprocessing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Converts pixels (N, S, S, 3) uint8 and classes (N,) to inputs (N, 3, S, S) float32 and int64, on the device."""
    device = next(classifier.parameters()).device
    inputs = normalise(torch.from_numpy(np.array(pixels)).to(device), preprocessing)
    return inputs, torch.from_numpy(np.asarray(classes, dtype=np.int64)).to(device)


def describe_layers(
    classifier: "Classifier", pixels: np.ndarray, preprocessing: Preprocessing, method: str, target_layer: str | None
) -> str:
    """Returns a description of what a method reads in this network; `pixels` are images for a forward pass."""
    with frozen_evaluation(classifier):
        inputs, _ = model_inputs(classifier, pixels[:1], np.zeros(1), preprocessing)
        layer = _layer_of_method(classifier, inputs, method, target_layer)
    return "the attention of all blocks" if layer is None else f"layer {layer.name}"
