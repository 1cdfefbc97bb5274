"""Assigns a network's tensors to stages (for freezing) and to layers (for layer-wise learning rate decay)."""

from itertools import chain
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_JOIN_PREVIOUS = (99999,)
"""timm's mark for tensors that belong to the group before."""
_UNMATCHED = "\0"
"""A name that no rule matches: it identifies the group of all unmatched names."""


def split_into_stages(backbone: "nn.Module") -> list[list[str]]:
    """Returns the names of the parameters and BatchNorm statistics of each stage, the stem first.

    Stages are the groups of timm's coarse `group_matcher`: a transformer's block, a residual network's stage, a VGG's
    convolution. Tensors after the last group (a last norm, a projection) belong to the last stage.
    """
    *groups, rest = _group_names(backbone, coarse=True)
    return [*groups[:-1], groups[-1] + rest] if groups else [rest]


def check_stage_count(backbone: "nn.Module", count: int, model: str) -> None:
    """Checks that a backbone has at least `count` stages.

    Raises:
        UsageError: it has fewer; the message says how many.
    """
    stages = len(split_into_stages(backbone))
    if count > stages:
        raise UsageError(
            f"--freeze {count}: {model} has only {stages} stages",
            expected=f"0 to {stages}; the first stage is the stem",
            next_step="freeze fewer, or the whole backbone with --freeze-backbone",
        )


def freeze_stages(backbone: "nn.Module", count: int) -> None:
    """Freezes the parameters and the BatchNorm statistics of the first `count` stages.

    Must be called again after each `backbone.train()`, which puts all BatchNorm layers into training mode.
    """
    frozen = set(chain.from_iterable(split_into_stages(backbone)[:count])) if count else set()
    for name, parameter in backbone.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for name, module in backbone.named_modules():
        if f"{name}.running_mean" in frozen:
            module.eval()


def parameter_layers(backbone: "nn.Module") -> dict[str, int]:
    """Returns classifier parameter name → layer number, from 0 at the input up to the head.

    Layers are the groups of timm's fine `group_matcher`, as in timm's layer-wise decay; parameters that no rule
    matches get the head's layer, as there.
    """
    groups = _group_names(backbone, coarse=False)
    layers = {f"backbone.{name}": layer for layer, names in enumerate(groups) for name in names}
    return {**layers, "head.weight": len(groups) - 1, "head.bias": len(groups) - 1}


def _group_names(backbone: Any, coarse: bool) -> list[list[str]]:
    """Returns the groups of a backbone in order; the last holds the unmatched names and may be empty."""
    # Private, because timm's public `group_parameters` does not group buffers.
    from timm.models._manipulate import group_with_matcher

    trunk = getattr(backbone, "trunk", None)
    if trunk is not None:  # open_clip's wrapper of a timm network.
        *groups, rest = _group_names(trunk, coarse)
        others = [name for name, _ in backbone.named_parameters() if not name.startswith("trunk.")]
        return [*([f"trunk.{name}" for name in names] for names in groups), [f"trunk.{name}" for name in rest] + others]
    statistics = ((name, value) for name, value in backbone.named_buffers() if name.endswith("running_mean"))
    named = chain(backbone.named_parameters(), statistics, [(_UNMATCHED, None)])
    groups = group_with_matcher(named, _group_matcher(backbone, coarse))
    return [[name for name in groups[layer] if name != _UNMATCHED] for layer in sorted(groups)]


def _group_matcher(backbone: Any, coarse: bool) -> Any:
    """Returns timm's rules for grouping a network's tensors, or rules of the same form for open_clip's towers."""
    if hasattr(backbone, "group_matcher"):
        return backbone.group_matcher(coarse=coarse)
    if hasattr(backbone, "transformer"):
        stem = r"^(?:conv1|class_embedding|positional_embedding|ln_pre|patchnorm_pre_ln|patch_dropout)"
        last = (r"^(?:ln_post|proj|attn_pool)", _JOIN_PREVIOUS)
        return {"stem": stem, "blocks": [(r"^transformer\.resblocks\.(\d+)", None), last]}
    if hasattr(backbone, "layer1"):
        layers = r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"
        return {"stem": r"^(?:conv|bn)\d", "blocks": [(layers, None), (r"^attnpool", _JOIN_PREVIOUS)]}
    children = dict.fromkeys(name.split(".")[0] for name, _ in backbone.named_parameters())
    return {"blocks": [(rf"^{child}(?:\.|$)", (number,)) for number, child in enumerate(children)]}
