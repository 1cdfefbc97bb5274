"""Where evidence is read off: the last layer that still knows where in the image it is, found by itself or named."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from soups.models.classifier import Classifier

_BACKBONE = "backbone."
_SHOWN = 8


class UnsuitableMethod(Exception):
    """A method or a layer that does not suit the network; its text is the reason, in a few words."""


@dataclass(frozen=True)
class Layer:
    """A module of a classifier, and how its output becomes maps."""

    name: str
    """As in `classifier.get_submodule`."""
    module: "nn.Module"
    prefix: int | None = None
    """Tokens before those of the patches (class token, registers), where the network says how many."""
    channels_last: bool = False
    """What an output is whose sides and channels are equally many."""

    def to_maps(self, output: Any) -> "torch.Tensor":
        """An output of the module, or its gradient, as (N, channels, h, w).

        Images are square, so an output whose last two sides are equal is (N, C, h, w), one whose middle two are equal
        is (N, h, w, C), as Swin has them. Of (N, tokens, C) the patches are taken, in rows.

        Raises:
            Unsuited: the output is no map of the image.
        """
        import torch

        if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
            found = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
            raise UnsuitableMethod(f"layer {self.name} gives no map of the image ({found})")
        if output.ndim == 3:
            prefix, side = patch_grid(output.shape[1], self.prefix)
            return output[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
        _, first, second, third = output.shape
        last = first == second and (second != third or self.channels_last)
        return output.permute(0, 3, 1, 2) if last else output


def patch_grid(tokens: int, prefix: int | None = None) -> tuple[int, int]:
    """How many tokens come before the patches, and the side of the square that the patches are.

    Args:
        tokens: of an image.
        prefix: what the network says of the former; else the patches are taken to be the largest square that fits.

    Raises:
        Unsuited: the patches are no square.
    """
    side = math.isqrt(tokens if prefix is None else max(0, tokens - prefix))
    prefix = tokens - side**2 if prefix is None else prefix
    if side == 0 or prefix + side**2 != tokens:
        raise UnsuitableMethod(f"its {tokens} tokens are not a square of patches")
    return prefix, side


def count_prefix_tokens(classifier: "Classifier") -> int | None:
    """The number of tokens before the patches, where the network says it."""
    tower, _ = _tower(classifier)
    number = getattr(tower, "num_prefix_tokens", None)
    if number is None and hasattr(tower, "class_embedding"):  # open_clip's.
        return 1
    return number


def pools_first_token(classifier: "Classifier", prefix: int) -> bool:
    """Whether a transformer's first token alone is what its features are made of."""
    tower, _ = _tower(classifier)
    kind = getattr(tower, "pool_type", None) or getattr(tower, "global_pool", None)
    return prefix > 0 and kind not in ("avg", "avgmax", "max", "map")


def _tower(classifier: "Classifier") -> "tuple[nn.Module, str]":
    """The network itself and its name: open_clip wraps timm's."""
    from torch import nn

    trunk = getattr(classifier.backbone, "trunk", None)
    return (trunk, f"{_BACKBONE}trunk.") if isinstance(trunk, nn.Module) else (classifier.backbone, _BACKBONE)


def _clip_transformer(tower: Any) -> str | None:
    """The whole last block would give zeros: nothing but the class token comes after it."""
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    return f"transformer.resblocks.{len(blocks) - 1}.ln_1" if blocks else None


def _timm_transformer(tower: Any) -> str | None:
    blocks = getattr(tower, "blocks", None)
    return f"blocks.{len(blocks) - 1}.norm1" if blocks and hasattr(blocks[-1], "norm1") else None


def _windows(tower: Any) -> str | None:
    """Swin's last norm, which global pooling follows."""
    return "norm" if hasattr(tower, "layers") and getattr(tower, "output_fmt", "") == "NHWC" else None


def _vgg(tower: Any) -> str | None:
    """The last convolution's activation, before it is pooled for the fully connected layers."""
    from torch import nn

    features = getattr(tower, "features", None)
    if not isinstance(features, nn.Sequential) or not hasattr(tower, "pre_logits"):
        return None
    return f"features.{len(features) - 2}" if isinstance(features[-1], nn.MaxPool2d) else None


FINDERS: "dict[str, Callable[[nn.Module], str | None]]" = {
    "transformer of open_clip": _clip_transformer,
    "transformer of timm": _timm_transformer,
    "transformer of windows": _windows,
    "VGG": _vgg,
}
"""Family → a function from a tower to the name of its layer, or None for towers of other families."""


def find_layer(classifier: "Classifier", example: "torch.Tensor") -> Layer:
    """The layer of a network's family, else the last one that gives a map of more than one place.

    Args:
        classifier: in evaluation mode.
        example: (N, 3, S, S) float32, inputs to find the last map with.

    Raises:
        Unsuited: no layer gives a map.
    """
    tower, before = _tower(classifier)
    named = next((name for finder in FINDERS.values() if (name := finder(tower)) is not None), None)
    return _layer(classifier, _last_map(classifier, example) if named is None else before + named)


def named_layer(classifier: "Classifier", name: str) -> Layer:
    """The layer that a user names, with or without `backbone.` before it.

    Raises:
        UsageError: there is none; lists the near ones.
    """
    known = [key for key, _ in classifier.backbone.named_modules() if key]
    key = name.removeprefix(_BACKBONE)
    if key in known:
        return _layer(classifier, _BACKBONE + key)
    near = difflib.get_close_matches(key, known, n=_SHOWN, cutoff=0.5)
    near = near or [child for child, _ in classifier.backbone.named_children()][:_SHOWN]
    raise UsageError(f"target layer {name!r}: the network has none of this name", expected=f"such as {', '.join(near)}")


def _layer(classifier: "Classifier", name: str) -> Layer:
    last = getattr(_tower(classifier)[0], "output_fmt", "") == "NHWC"
    return Layer(name, classifier.get_submodule(name), count_prefix_tokens(classifier), last)


def _last_map(classifier: "Classifier", example: "torch.Tensor") -> str:
    """The name of the module that is the last to give a map, the outermost of those that give the same one."""
    import torch
    from torch import nn

    found: list[str] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and min(sorted(output.shape[1:])[1:]) > 1:
                sides = {output.shape[1:3], output.shape[2:4]}
                if any(first == second > 1 for first, second in sides):
                    found.append(name)

        return hook

    modules = [(name, each) for name, each in classifier.named_modules() if name and not isinstance(each, nn.Identity)]
    handles = [module.register_forward_hook(note(name)) for name, module in modules]
    try:
        with torch.no_grad():
            classifier(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UnsuitableMethod("no layer of it gives a map of the image")
    return found[-1]
