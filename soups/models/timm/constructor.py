"""timm's constructor, with what it says of arguments that a network cannot have."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

# What a network that does not work raises while it is built or run.
_REFUSALS = (TypeError, ValueError, AssertionError, LookupError, ZeroDivisionError, AttributeError, RuntimeError)
# Arguments of timm's constructors that say how to build rather than what, or that this toolkit decides.
_NOT_THE_NETWORKS = frozenset(
    {"self", "num_classes", "in_chans", "out_indices", "features_only", "pruned", "device", "dtype", "cfg", "kwargs"}
)

HIDDEN = "pre_logits"
"""Our own argument, and timm's module that it is about: `False` leaves a VGG's two hidden layers out of its backbone,
so that its features are the pooled ones of the last convolution (14.7 M parameters of a VGG16 instead of 134.3 M)."""


class CannotBuild(Exception):
    """timm cannot build this network, or it does not run."""

    def __init__(self, found: str, unknown: str = "") -> None:
        super().__init__(found)
        self.unknown = unknown
        """The argument that it does not have, where it is that."""


def build(
    name: str,
    arguments: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    *,
    published: bool = False,
    classes: int = 0,
) -> Any:
    """A network of timm's, on the default device.

    Args:
        name: timm's, with or without a tag.
        arguments: of its class, beside those that the name stands for.
        config: its `pretrained_cfg`, where the name does not say it.
        published: load the weights that it names, hidden layers included; whatever goes wrong there is raised as it is.
        classes: of the published classifier; 0 for a backbone without.

    Raises:
        NotBuilt: with these arguments timm cannot build it.
    """
    import timm
    import torch

    if refused := next((key for key in arguments if key in _reserved()), None):
        raise CannotBuild(f"{refused} is not an argument of the network", refused)
    given = {"pretrained_cfg": dict(config) if config else None, "num_classes": classes, **arguments}
    hidden = given.pop(HIDDEN, True)
    if published:
        return timm.create_model(name, pretrained=True, **given)
    try:
        return _as_asked(timm.create_model(name, pretrained=False, **given), hidden)
    except _REFUSALS as error:
        if isinstance(error, RuntimeError) and torch.get_default_device().type == "meta":
            raise  # Some networks cannot be built without storage.
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        raise CannotBuild(_told(error), unknown[1] if unknown else "") from error


def _as_asked(model: Any, hidden: bool) -> Any:
    if hidden is True:
        return model
    if hidden is not False or not hasattr(model, HIDDEN):
        raise CannotBuild(
            f"{HIDDEN}=False is for networks with hidden layers before the classifier, such as vgg16", HIDDEN
        )
    from torch import nn

    model.pre_logits = nn.Identity()
    model.head_hidden_size = model.num_features
    return model


def _reserved() -> frozenset[str]:
    import timm
    from timm.models import build_model_with_cfg

    own = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    return _NOT_THE_NETWORKS | own


def known_arguments(name: str) -> list[str]:
    """The arguments that the class of a network takes, in its order."""
    import torch

    try:
        with torch.device("meta"):
            model = build(name, {})
    except (RuntimeError, NotImplementedError):
        model = build(name, {})
    own = [HIDDEN] if hasattr(model, HIDDEN) else []
    return [key for key in inspect.signature(type(model).__init__).parameters if key not in _reserved()] + own


def count_features(model: Any) -> int:
    """How many features the model gives where it has no classifier."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def check_runs(model: Any, size: int) -> None:
    """Show a network an image of this size.

    Raises:
        NotBuilt: it does not take it, or gives no vector of features.
    """
    import torch

    training = model.training
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(torch.zeros(1, 3, size, size)).shape)
    except _REFUSALS as error:
        raise CannotBuild(_told(error)) from error
    finally:
        model.train(training)
    if shape != (1, count_features(model)):
        raise CannotBuild(f"features of shape {shape} instead of {(1, count_features(model))}")


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
