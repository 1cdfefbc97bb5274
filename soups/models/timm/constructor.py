"""Builds timm networks from constructor arguments, and reports the arguments that a network does not support."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from soups.core.errors import one_line

# Exceptions of networks that cannot be built with their arguments, or that fail at their input size.
_BUILD_ERRORS = (TypeError, ValueError, AssertionError, LookupError, ZeroDivisionError, AttributeError, RuntimeError)
# Constructor arguments that do not describe the network, or that this package sets.
_OTHER_ARGUMENTS = frozenset(
    {"self", "num_classes", "in_chans", "out_indices", "features_only", "pruned", "device", "dtype", "cfg", "kwargs"}
)

HIDDEN_LAYERS = "pre_logits"
"""Our own argument, named as timm's module: `False` removes a VGG's two hidden layers, so that its features are those
of the last convolution, pooled (14.7 M parameters of a VGG16 instead of 134.3 M)."""


class CannotBuild(Exception):
    """timm cannot build the network, or the network does not run."""

    def __init__(self, found: str, unknown: str = "") -> None:
        super().__init__(found)
        self.unknown = unknown
        """The unknown argument, if that is the reason; else empty."""


def build(
    name: str,
    arguments: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    *,
    published: bool = False,
    classes: int = 0,
) -> Any:
    """Returns a timm network on the default device.

    Args:
        name: timm's name, with or without a tag.
        arguments: constructor arguments in addition to those of the name.
        config: the network's `pretrained_cfg`, if it is not that of the name.
        published: load the published weights, hidden layers included; exceptions of the download pass through.
        classes: classes of the classifier; 0: no classifier.

    Raises:
        CannotBuild: timm cannot build the network with these arguments.
    """
    import timm
    import torch

    if refused := next((key for key in arguments if key in _reserved_arguments()), None):
        raise CannotBuild(f"{refused} is not an argument of the network", refused)
    options = {"pretrained_cfg": dict(config) if config else None, "num_classes": classes, **arguments}
    keep_hidden = options.pop(HIDDEN_LAYERS, True)
    if published:
        return timm.create_model(name, pretrained=True, **options)
    try:
        model = timm.create_model(name, pretrained=False, **options)
    except _BUILD_ERRORS as error:
        if isinstance(error, RuntimeError) and torch.get_default_device().type == "meta":
            raise  # Some networks cannot be built on the meta device.
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        raise CannotBuild(one_line(error, 200), unknown[1] if unknown else "") from error
    if keep_hidden is not True:
        if keep_hidden is not False or not hasattr(model, HIDDEN_LAYERS):
            needs = "is for networks with hidden layers before the classifier, such as vgg16"
            raise CannotBuild(f"{HIDDEN_LAYERS}=False {needs}", HIDDEN_LAYERS)
        model.pre_logits = torch.nn.Identity()
        model.head_hidden_size = model.num_features
    return model


def _reserved_arguments() -> frozenset[str]:
    """Returns the arguments that users may not set: those of timm's own functions, and those that we set."""
    import timm
    from timm.models import build_model_with_cfg

    own = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    return _OTHER_ARGUMENTS | own


def known_arguments(name: str) -> list[str]:
    """Returns the constructor arguments of a network that users may set, in their order."""
    import torch

    try:
        with torch.device("meta"):
            model = build(name, {})
    except RuntimeError:
        model = build(name, {})
    own = [HIDDEN_LAYERS] if hasattr(model, HIDDEN_LAYERS) else []
    return [key for key in inspect.signature(type(model).__init__).parameters if key not in _reserved_arguments()] + own


def count_features(model: Any) -> int:
    """Returns the number of features of a network without classifier."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def check_runs(model: Any, size: int) -> None:
    """Checks that a network computes features for an image of this size.

    Raises:
        CannotBuild: the network fails, or its output is not a vector of features.
    """
    import torch

    training = model.training
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(torch.zeros(1, 3, size, size)).shape)
    except _BUILD_ERRORS as error:
        raise CannotBuild(one_line(error, 200)) from error
    finally:
        model.train(training)
    if shape != (1, count_features(model)):
        raise CannotBuild(f"features of shape {shape} instead of {(1, count_features(model))}")
