"""The ways of explaining: maps of the evidence for a class, by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing, normalise
from soups.core.progress import track
from soups.explain.attention import relevance, rollout
from soups.explain.layers import Layer, UnsuitableMethod, find_layer, named_layer
from soups.explain.settings import AUTO, MapSettings, check_method

if TYPE_CHECKING:
    from soups.models.classifier import Classifier


@dataclass(frozen=True)
class Method:
    """A way of explaining."""

    maps: "Callable[[Classifier, torch.Tensor, torch.Tensor, Layer | None], torch.Tensor]"
    """(classifier, inputs (N, 3, S, S), classes (N,), layer) → (N, h, w) float32, as coarse as the layer."""
    layered: bool = True
    """Whether it reads a layer; else it reads all attention matrices."""
    of_class: bool = True
    """Whether the map depends on the class."""


def _from_gradients(formula: str) -> "Callable[[Classifier, torch.Tensor, torch.Tensor, Layer | None], torch.Tensor]":
    """A formula of the grad-cam library on a layer's activations and gradients."""

    def maps(
        classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: Layer | None
    ) -> torch.Tensor:
        import pytorch_grad_cam

        assert layer is not None
        kept, slopes = activations_and_gradients(classifier, inputs, classes, layer)
        # Its own run would add to the weights' gradients, read activations that a ReLU in place has changed since, and
        # swallow errors; the formulas alone have none of this.
        cam = getattr(pytorch_grad_cam, formula)(classifier, target_layers=[])
        arrays = kept.cpu().numpy(), slopes.cpu().numpy()
        return torch.from_numpy(cam.get_cam_image(inputs, layer.module, classes, *arrays, False))

    return maps


def _class_activation(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: Layer | None
) -> torch.Tensor:
    """Class activation maps (Zhou et al. 2016, "Learning deep features for discriminative localization", equation 2).

    The map is Σ_k w_k · f_k(x, y), with the head's weights of the class. It is the logit taken apart only where the
    head follows the global mean of these very maps, which is tried out on the inputs.
    """
    assert layer is not None
    kept, _ = activations_and_gradients(classifier, inputs, classes, layer)
    head = classifier.head
    with torch.no_grad():
        logits = classifier(inputs)
        fits = kept.shape[1] == head.in_features and torch.allclose(
            head(kept.mean(dim=(2, 3))), logits, rtol=1e-3, atol=1e-4 * (1 + float(logits.abs().max()))
        )
        if not fits:
            raise UnsuitableMethod(f"its head does not directly follow the mean over places of layer {layer.name}")
        return torch.einsum("nk,nkhw->nhw", head.weight[classes], kept)


METHODS: dict[str, Method] = {
    "cam": Method(_class_activation),
    "gradcam": Method(_from_gradients("GradCAM")),
    "gradcam++": Method(_from_gradients("GradCAMPlusPlus")),
    "layercam": Method(_from_gradients("LayerCAM")),
    "rollout": Method(lambda *given: rollout(*given[:3]), layered=False, of_class=False),
    "relevance": Method(lambda *given: relevance(*given[:3]), layered=False),
}


def activations_and_gradients(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: Layer
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer gives, and the gradient of the classes' logits by it; both (N, C, h, w) float32.

    Only what comes after the layer becomes part of a graph.

    Raises:
        Unsuited: the layer gives no map, or the logits do not depend on the places of its map.
    """
    kept: list[torch.Tensor] = []

    def cut(module: torch.nn.Module, given: object, output: object) -> torch.Tensor:
        layer.to_maps(output)
        assert isinstance(output, torch.Tensor)
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1].clone()  # What follows may work in place.

    handle = layer.module.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = classifier(inputs)
    finally:
        handle.remove()
    if not kept:
        raise UnsuitableMethod(f"layer {layer.name} is not run")
    score = logits.gather(1, classes[:, None]).sum()
    slope = torch.autograd.grad(score, kept[-1], allow_unused=True)[0] if score.requires_grad else None
    slopes = None if slope is None else layer.to_maps(slope)
    if slopes is None or not bool(slopes.any()):
        raise UnsuitableMethod(
            f"nothing that layer {layer.name} says of places reaches the logits; an earlier one may do"
        )
    return layer.to_maps(kept[-1].detach()), slopes


@contextmanager
def frozen_evaluation(classifier: "Classifier") -> Iterator[None]:
    """Evaluation mode and fixed weights within the block; afterwards all is as it was."""
    modes = {module: module.training for module in classifier.modules()}
    learning = [weight for weight in classifier.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    classifier.eval()
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)
        for module, training in modes.items():
            module.training = training


def coarse_maps(
    classifier: "Classifier",
    inputs: torch.Tensor,
    classes: torch.Tensor,
    method: str,
    target_layer: str | None = None,
) -> torch.Tensor:
    """Maps as a method's formula gives them, before they are scaled and enlarged; computed in float32.

    Args:
        classifier: on the device of the inputs; left as it was.
        inputs: (N, 3, S, S) float32, normalised.
        classes: (N,) int64, whose logits are explained.
        method: one of `METHODS`.
        target_layer: the name of a module of the backbone; None: `find_layer` decides.

    Returns:
        (N, h, w) float32 on the CPU, with h and w of the layer, or of the patches.

    Raises:
        UsageError: an unknown method or layer, or one that does not suit the network; says which methods do.
    """
    check_method(method)
    if target_layer is not None and not METHODS[method].layered:
        raise UsageError(f"method {method} has no target layer", found=target_layer, next_step="leave it out")
    with frozen_evaluation(classifier):
        try:
            return _maps_of(classifier, inputs, classes, method, target_layer)
        except UnsuitableMethod as reason:
            suited = [name for name in METHODS if _suits(classifier, inputs[:1], classes[:1], name)]
            raise UsageError(
                f"method {method} does not suit this model: {reason}",
                expected=f"one of {', '.join(suited)}" if suited else "",
                next_step="" if target_layer is None else f"leave the target layer {target_layer} out",
            ) from None


def _maps_of(
    classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, method: str, target_layer: str | None
) -> torch.Tensor:
    layer = None
    if target_layer is not None:
        layer = named_layer(classifier, target_layer)
    elif METHODS[method].layered:
        layer = find_layer(classifier, inputs)
    return METHODS[method].maps(classifier, inputs, classes, layer).detach().float().cpu()


def _suits(classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, method: str) -> bool:
    try:
        _maps_of(classifier, inputs, classes, method, None)
    except UnsuitableMethod:
        return False
    return True


def resolve_method(
    classifier: "Classifier", pixels: np.ndarray, preprocessing: Preprocessing, settings: MapSettings
) -> str:
    """The method that is meant; `auto`: relevance where a network's attention can be read, gradcam++ elsewhere.

    On the ViTs that were measured, gradients at one layer pointed no better than chance, and relevance did.
    """
    if settings.method != AUTO:
        return settings.method
    if settings.target_layer is not None:
        return "gradcam++"
    with frozen_evaluation(classifier):
        inputs, classes = model_inputs(classifier, pixels[:1], np.zeros(1), preprocessing)
        return "relevance" if _suits(classifier, inputs, classes, "relevance") else "gradcam++"


def upsample_maps(maps: torch.Tensor, side: int) -> np.ndarray:
    """Coarse maps at the size of the input, each from 0 to 1: (N, h, w) → (N, side, side) float32.

    What speaks against the class is left out, as Grad-CAM does; bilinear between the places; the least becomes 0 and
    the greatest 1. A map that is the same everywhere becomes 0.
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
    batch_size: int = 16,
) -> np.ndarray:
    """Maps of where an image's evidence for a class is.

    Args:
        classifier: on any device; left as it was.
        pixels: (N, S, S, 3) uint8 at the model's evaluation geometry.
        classes: (N,) int64, positions among the logits.
        preprocessing: the model's.
        method: one of `METHODS`.
        target_layer: as in `coarse_maps`.
        batch_size: images explained at once.

    Returns:
        (N, S, S) float32 in [0, 1].

    Raises:
        UsageError: as `coarse_maps`.
    """
    maps = np.empty(pixels.shape[:3], dtype=np.float32)
    for begin in track(range(0, len(pixels), batch_size), "explaining"):
        part = slice(begin, begin + batch_size)
        inputs, targets = model_inputs(classifier, pixels[part], classes[part], preprocessing)
        maps[part] = upsample_maps(coarse_maps(classifier, inputs, targets, method, target_layer), pixels.shape[1])
    return maps


def model_inputs(
    classifier: "Classifier", pixels: np.ndarray, classes: np.ndarray, preprocessing: Preprocessing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (N, 3, S, S) float32 and classes (N,) int64 on the classifier's device, from pixels (N, S, S, 3) uint8."""
    device = next(classifier.parameters()).device
    inputs = normalise(torch.from_numpy(np.array(pixels)).to(device), preprocessing)
    return inputs, torch.from_numpy(np.asarray(classes, dtype=np.int64)).to(device)


def describe_layers(
    classifier: "Classifier", pixels: np.ndarray, preprocessing: Preprocessing, method: str, target_layer: str | None
) -> str:
    """What a method reads in this network, in words; `pixels` are some images to find it with."""
    if not METHODS[method].layered:
        return "the attention of all blocks"
    if target_layer is not None:
        return f"layer {named_layer(classifier, target_layer).name}"
    with frozen_evaluation(classifier):
        inputs, _ = model_inputs(classifier, pixels[:1], np.zeros(1), preprocessing)
        return f"layer {find_layer(classifier, inputs).name}"
