"""Which tensors of a network belong to which of its stages or layers, from the images to the logits."""

from itertools import chain
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_WITH_THE_LAST = (99999,)
"""timm's mark of what belongs to the group before."""
_UNMATCHED = "\0"
"""A name that no rule matches, to tell what else none does."""
# open_clip's own towers have no `group_matcher`.
_CLIP_TRANSFORMER = {
    "stem": r"^(?:conv1|class_embedding|positional_embedding|ln_pre|patchnorm_pre_ln|patch_dropout)",
    "blocks": [(r"^transformer\.resblocks\.(\d+)", None), (r"^(?:ln_post|proj|attn_pool)", _WITH_THE_LAST)],
}
_CLIP_RESNET = {
    "stem": r"^(?:conv|bn)\d",
    "blocks": [(r"^layer(\d+)", None), (r"^attnpool", _WITH_THE_LAST)],
}
_CLIP_RESNET_FINE = {**_CLIP_RESNET, "blocks": [(r"^layer(\d+)\.(\d+)", None), (r"^attnpool", _WITH_THE_LAST)]}


def stages(backbone: "nn.Module") -> list[list[str]]:
    """Names of the parameters and BatchNorm statistics of each stage of a backbone, the first (its stem) first.

    A stage is what timm's coarse `group_matcher` makes one: a transformer's block, a residual network's stage, a VGG's
    convolution. What comes after the last one (a last norm, a projection) belongs to it.
    """
    *groups, rest = _grouped(backbone, coarse=True)
    return [*groups[:-1], groups[-1] + rest] if groups else [rest]


def check_stages(backbone: "nn.Module", count: int, model: str) -> None:
    """Raise unless a backbone has so many stages.

    Raises:
        UsageError: it has fewer; says how many.
    """
    there = len(stages(backbone))
    if count > there:
        raise UsageError(
            f"--freeze {count}: {model} has no so many stages",
            expected=f"0 to {there}, its stem being the first",
            next_step="--freeze-backbone freezes all",
        )


def freeze(backbone: "nn.Module", count: int) -> None:
    """Take the first `count` stages out of training: their parameters, and the statistics of their BatchNorm.

    To be called whenever the backbone was put into training mode, which sets BatchNorm's layers going.
    """
    frozen = set(chain.from_iterable(stages(backbone)[:count])) if count else set()
    for name, parameter in backbone.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for name, module in backbone.named_modules():
        if f"{name}.running_mean" in frozen:
            module.eval()


def parameter_layers(backbone: "nn.Module") -> dict[str, int]:
    """Name of each parameter of a classifier with this backbone → its layer, from 0 at the images to the head.

    Layers are finer than stages: those of timm's fine `group_matcher`, on which its layer-wise decay goes. What no rule
    matches is the head's, as there.
    """
    groups = _grouped(backbone, coarse=False)
    layers = {f"backbone.{name}": layer for layer, names in enumerate(groups) for name in names}
    return {**layers, "head.weight": len(groups) - 1, "head.bias": len(groups) - 1}


def _grouped(backbone: Any, coarse: bool) -> list[list[str]]:
    """The groups of a backbone in their order; the last is what no rule matches, maybe nothing."""
    from timm.models._manipulate import group_with_matcher  # `group_parameters` looks at parameters alone.

    trunk = getattr(backbone, "trunk", None)
    if trunk is not None:  # A network of timm's as open_clip's tower.
        *groups, rest = _grouped(trunk, coarse)
        others = [name for name, _ in backbone.named_parameters() if not name.startswith("trunk.")]
        return [*([f"trunk.{name}" for name in names] for names in groups), [f"trunk.{name}" for name in rest] + others]
    statistics = ((name, value) for name, value in backbone.named_buffers() if name.endswith("running_mean"))
    named = chain(backbone.named_parameters(), statistics, [(_UNMATCHED, None)])
    groups = group_with_matcher(named, _matcher(backbone, coarse))
    return [[name for name in groups[layer] if name != _UNMATCHED] for layer in sorted(groups)]


def _matcher(backbone: Any, coarse: bool) -> Any:
    """timm's rule for what belongs together, or one of the same kind for open_clip's towers."""
    if hasattr(backbone, "group_matcher"):
        return backbone.group_matcher(coarse=coarse)
    if hasattr(backbone, "transformer"):
        return _CLIP_TRANSFORMER
    if hasattr(backbone, "layer1"):
        return _CLIP_RESNET if coarse else _CLIP_RESNET_FINE
    children = dict.fromkeys(name.split(".")[0] for name, _ in backbone.named_parameters())
    return {"blocks": [(rf"^{child}(?:\.|$)", (number,)) for number, child in enumerate(children)]}
