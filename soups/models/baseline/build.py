"""Builds the baseline network: from settings as a start model, or empty from a card's architecture."""

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

BASELINE = "baseline"
"""Name of the family, and of its only network."""
WIDTHS = (32, 64, 128)
"""Default channels of the three blocks."""
IMAGE_SIZE = 64
"""Default side of the input in pixels."""
_MAX_BLOCKS = 8
_MAX_CHANNELS = 4096
_HALF = (0.5, 0.5, 0.5)


def build_baseline_start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """Builds the start model: random weights or those of a file, and a random head.

    Raises:
        UsageError: a tag of weights (none are published), `--head zero-shot`, or an unknown argument.
        DataError: the file does not fit.
    """
    from soups.models.classifier import Classifier

    if settings.head == "zero-shot":
        raise UsageError(f"--head zero-shot: {BASELINE} has no text tower", next_step="leave --head out")
    architecture, preprocessing = describe_baseline(settings)
    file = find_weights_file(settings.pretrained, BASELINE, ())
    backbone, features = heads.seeded_build(lambda: build_empty_baseline(architecture), seed)
    if file is not None:
        load_backbone(backbone, file, BASELINE)
    head = heads.random_head(features, len(classes), seed)
    return Start(Classifier(backbone, head, normalise_features=False).eval(), architecture, preprocessing)


def describe_baseline(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Returns architecture and preprocessing: pixels scaled to [-1, 1], at any size of at least 2^blocks.

    Raises:
        UsageError: an argument is unknown, or the images are too small for the number of blocks.
    """
    arguments = settings.arguments
    if unknown := [name for name in arguments if name != "widths"]:
        raise unknown_name(f"argument of {BASELINE}", unknown[0], ("widths",))
    try:
        blocks = len(_read_widths(arguments))
    except ValueError as error:
        found, next_step = repr(arguments["widths"]), "widths=[32,64,128]"
        raise UsageError("--model-args widths", expected=str(error), found=found, next_step=next_step) from error
    size = settings.image_size or max(IMAGE_SIZE, 2**blocks)
    if size < 2**blocks:
        expected = f"at least {2**blocks}, because {blocks} blocks halve it"
        raise UsageError(f"--image-size {size}: too small for {BASELINE}", expected=expected)
    architecture = Architecture(family=BASELINE, name=BASELINE, arguments=arguments)
    return architecture, Preprocessing(size=size, mean=_HALF, std=_HALF)


def build_empty_baseline(architecture: Architecture) -> "tuple[nn.Module, int]":
    """Returns the network (N, 3, S, S) → (N, D), randomly initialised, and D.

    Raises:
        DataError: the family has no such architecture.
    """
    from soups.models.baseline.network import Baseline

    try:
        if architecture.name != BASELINE or architecture.arguments.keys() - {"widths"}:
            raise ValueError(f"{BASELINE}, with no other argument than widths")
        network = Baseline(_read_widths(architecture.arguments))
    except ValueError as error:
        found = f"{architecture.name} {architecture.arguments or ''}"
        problem = f"architecture {architecture.name!r}: not a {BASELINE}"
        raise DataError(problem, expected=str(error), found=found) from None
    return network, network.num_features


def _read_widths(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the channels of the blocks; raises ValueError with the expected values if they are not valid."""
    widths = arguments.get("widths", WIDTHS)
    is_list = isinstance(widths, list | tuple) and 0 < len(widths) <= _MAX_BLOCKS
    if not is_list or not all(type(width) is int and 0 < width <= _MAX_CHANNELS for width in widths):
        raise ValueError(f"one to {_MAX_BLOCKS} whole numbers from 1 to {_MAX_CHANNELS}")
    return tuple(widths)
