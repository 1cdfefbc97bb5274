"""Finds the layer whose output a method explains: the last one that outputs a feature map, or one named by the user."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from soups.models.classifier import Classifier

_BACKBONE = "backbone."
_SHOWN = 8


class UnsuitableMethod(Exception):
    """The method or layer cannot be applied to the network; the text is the reason."""


@dataclass(frozen=True)
class Layer:
    """A module of a classifier, and the conversion of its output to feature maps."""

    name: str
    """Name for `classifier.get_submodule`."""
    module: "nn.Module"
    prefix: int | None = None
    """Number of tokens before those of the patches (class token, registers), if known."""
    channels_last: bool = False
    """Whether a 4-dimensional output with equal sizes is (N, h, w, C)."""

    def to_maps(self, output: Any) -> "torch.Tensor":
        """Returns an output of the module, or its gradient, as (N, channels, h, w).

        Images are square, so an output whose last two sizes are equal is (N, C, h, w), and one whose middle two are
        equal is (N, h, w, C), as in Swin. Of (N, tokens, C) the tokens of the patches form the rows of the map.

        Raises:
            UnsuitableMethod: the output is not a feature map.
        """
        import torch

        if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
            found = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
            raise UnsuitableMethod(f"layer {self.name} outputs no feature map ({found})")
        if output.ndim == 3:
            prefix, side = patch_grid(output.shape[1], self.prefix)
            return output[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
        _, first, second, third = output.shape
        last = first == second and (second != third or self.channels_last)
        return output.permute(0, 3, 1, 2) if last else output


def patch_grid(tokens: int, prefix: int | None = None) -> tuple[int, int]:
    """Returns the number of tokens before the patches, and the side of the square of patches.

    Args:
        tokens: tokens of an image.
        prefix: tokens before the patches; None: the patches are the largest square that fits.

    Raises:
        UnsuitableMethod: the patches do not form a square.
    """
    side = math.isqrt(tokens if prefix is None else max(0, tokens - prefix))
    prefix = tokens - side**2 if prefix is None else prefix
    if side == 0 or prefix + side**2 != tokens:
        raise UnsuitableMethod(f"its {tokens} tokens are not a square of patches")
    return prefix, side


def count_prefix_tokens(classifier: "Classifier") -> int | None:
    """Returns the number of tokens before the patches, or None if the network does not have it."""
    tower, _ = _tower(classifier)
    number = getattr(tower, "num_prefix_tokens", None)
    return 1 if number is None and hasattr(tower, "class_embedding") else number  # A tower of open_clip has one.


def pools_first_token(classifier: "Classifier", prefix: int) -> bool:
    """Returns whether a transformer's features are its first token."""
    tower, _ = _tower(classifier)
    kind = getattr(tower, "pool_type", None) or getattr(tower, "global_pool", None)
    return prefix > 0 and kind not in ("avg", "avgmax", "max", "map")


def _tower(classifier: "Classifier") -> "tuple[nn.Module, str]":
    """Returns the network and the prefix of its module names: open_clip wraps timm's networks."""
    from torch import nn

    trunk = getattr(classifier.backbone, "trunk", None)
    return (trunk, f"{_BACKBONE}trunk.") if isinstance(trunk, nn.Module) else (classifier.backbone, _BACKBONE)


def _clip_transformer(tower: Any) -> str | None:
    """Returns the first norm of the last block: the block's output has zero gradients except at the class token."""
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    return f"transformer.resblocks.{len(blocks) - 1}.ln_1" if blocks else None


def _timm_transformer(tower: Any) -> str | None:
    blocks = getattr(tower, "blocks", None)
    return f"blocks.{len(blocks) - 1}.norm1" if blocks and hasattr(blocks[-1], "norm1") else None


def _swin(tower: Any) -> str | None:
    """Returns Swin's last norm, before global pooling."""
    return "norm" if hasattr(tower, "layers") and getattr(tower, "output_fmt", "") == "NHWC" else None


def _vgg(tower: Any) -> str | None:
    """Returns the activation of the last convolution, before the pooling for the fully connected layers."""
    from torch import nn

    features = getattr(tower, "features", None)
    if not isinstance(features, nn.Sequential) or not hasattr(tower, "pre_logits"):
        return None
    return f"features.{len(features) - 2}" if isinstance(features[-1], nn.MaxPool2d) else None


FINDERS: "dict[str, Callable[[nn.Module], str | None]]" = {
    "transformer of open_clip": _clip_transformer,
    "transformer of timm": _timm_transformer,
    "Swin": _swin,
    "VGG": _vgg,
}
"""Family → function from a tower to the name of its layer; None for towers of other families."""


def find_layer(classifier: "Classifier", example: "torch.Tensor") -> Layer:
    """Returns the layer of a network's family, else the last one that outputs a map of more than one position.

    Args:
        classifier: in evaluation mode.
        example: (N, 3, S, S) float32, inputs for a forward pass.

    Raises:
        UnsuitableMethod: no layer outputs a feature map.
    """
    tower, before = _tower(classifier)
    named = next((name for finder in FINDERS.values() if (name := finder(tower)) is not None), None)
    return _make_layer(classifier, _last_map(classifier, example) if named is None else before + named)


def named_layer(classifier: "Classifier", name: str) -> Layer:
    """Returns the layer that a user names, with or without the prefix `backbone.`.

    Raises:
        UsageError: the network has no such layer; the message names similar ones.
    """
    known = [key for key, _ in classifier.backbone.named_modules() if key]
    key = name.removeprefix(_BACKBONE)
    if key in known:
        return _make_layer(classifier, _BACKBONE + key)
    near = difflib.get_close_matches(key, known, n=_SHOWN, cutoff=0.5)
    near = near or [child for child, _ in classifier.backbone.named_children()][:_SHOWN]
    raise UsageError(f"target layer {name!r}: the network has no such module", expected=f"such as {', '.join(near)}")


def _make_layer(classifier: "Classifier", name: str) -> Layer:
    last = getattr(_tower(classifier)[0], "output_fmt", "") == "NHWC"
    return Layer(name, classifier.get_submodule(name), count_prefix_tokens(classifier), last)


def _last_map(classifier: "Classifier", example: "torch.Tensor") -> str:
    """Returns the last module that outputs a feature map; the outermost, if several output the same."""
    import torch
    from torch import nn

    found: list[str] = []

    def record_map(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            _, first, second, third = output.shape
            if first == second > 1 or second == third > 1:
                found.append(name)

    modules = [(name, each) for name, each in classifier.named_modules() if name and not isinstance(each, nn.Identity)]
    handles = [module.register_forward_hook(partial(record_map, name)) for name, module in modules]
    try:
        with torch.no_grad():
            classifier(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UnsuitableMethod("none of its layers outputs a feature map")
    return found[-1]
