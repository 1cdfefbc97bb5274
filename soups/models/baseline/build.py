"""The family `baseline`: one small network of three convolutions, from random weights."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.preprocessing import Preprocessing
from soups.models import heads
from soups.models.pretrained import find_weights_file, load_backbone
from soups.models.settings import ModelSettings
from soups.models.start import Start

if TYPE_CHECKING:
    from torch import nn

FAMILY = "baseline"
NAME = "baseline"
WIDTHS = (32, 64, 128)
"""Channels of the three blocks, by default."""
IMAGE_SIZE = 64
"""Side of the input in pixels, by default."""
_MOST_BLOCKS = 8
_MOST_CHANNELS = 4096
_HALF = (0.5, 0.5, 0.5)


def start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """The start of training: random weights, or those of a file, and a random head.

    Raises:
        UsageError: a tag of weights (nobody published any), `--head zero-shot`, or arguments that it does not have.
        DataError: a file that does not fit.
    """
    from soups.models.classifier import Classifier

    if settings.head == "zero-shot":
        raise UsageError(f"--head zero-shot: {NAME} has no text tower", next_step="leave --head out")
    architecture, preprocessing = describe(settings)
    file = find_weights_file(settings.pretrained, NAME, ())
    backbone, features = heads.seeded_build(lambda: empty(architecture), seed)
    if file is not None:
        load_backbone(backbone, file, NAME)
    head = heads.random_head(features, len(classes), seed)
    return Start(Classifier(backbone, head, normalise_features=False).eval(), architecture, preprocessing)


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Architecture and preprocessing: pixels scaled to [-1, 1], at any size that is not pooled away.

    Raises:
        UsageError: arguments that it does not have, or images too small for so many blocks.
    """
    arguments = settings.arguments
    if unknown := next((name for name in arguments if name != "widths"), None):
        raise unknown_name(f"argument of {NAME}", unknown, ("widths",))
    try:
        blocks = len(_widths(arguments))
    except ValueError as error:
        raise UsageError(
            "--model-args widths", expected=str(error), found=repr(arguments["widths"]), next_step="widths=[32,64,128]"
        ) from error
    size = settings.image_size or max(IMAGE_SIZE, 2**blocks)
    if size < 2**blocks:
        raise UsageError(
            f"--image-size {size}: too small for {NAME}", expected=f"at least {2**blocks}: {blocks} blocks halve it"
        )
    return Architecture(family=FAMILY, name=NAME, arguments=arguments), Preprocessing(size=size, mean=_HALF, std=_HALF)


def empty(architecture: Architecture) -> "tuple[nn.Module, int]":
    """The network (N, 3, S, S) → (N, D), randomly initialised, and D.

    Raises:
        DataError: an architecture of this family that there is not.
    """
    from soups.models.baseline.network import Baseline

    try:
        if architecture.name != NAME or architecture.arguments.keys() - {"widths"}:
            raise ValueError(f"{NAME}, with no other argument than widths")
        network = Baseline(_widths(architecture.arguments))
    except ValueError as error:
        found = f"{architecture.name} {architecture.arguments or ''}"
        raise DataError(f"architecture {architecture.name!r}: not a {NAME}", expected=str(error), found=found) from None
    return network, network.num_features


def _widths(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    widths = arguments.get("widths", WIDTHS)
    right = isinstance(widths, list | tuple) and 0 < len(widths) <= _MOST_BLOCKS
    if not right or not all(type(width) is int and 0 < width <= _MOST_CHANNELS for width in widths):
        raise ValueError(f"one to {_MOST_BLOCKS} whole numbers from 1 to {_MOST_CHANNELS}")
    return tuple(widths)
