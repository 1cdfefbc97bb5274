"""Builds classifiers, from settings (with initial weights) or from a card's architecture (empty or with a state).

A backbone family is added by one entry of `BUILDERS`. Reading checkpoint files is in `load`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, one_line
from soups.core.preprocessing import Preprocessing
from soups.models import heads
from soups.models.baseline.build import BASELINE, build_baseline_start, build_empty_baseline, describe_baseline
from soups.models.open_clip.build import build_clip_start, build_empty_clip
from soups.models.open_clip.names import OPEN_CLIP, describe_clip
from soups.models.pretrained import check_fit, load_strictly
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.models.timm.build import build_empty_timm, build_timm_start, describe_timm
from soups.models.timm.names import TIMM, is_timm

if TYPE_CHECKING:
    import torch
    from torch import nn

    from soups.models.classifier import Classifier


@dataclass(frozen=True)
class Family:
    """A library of backbones."""

    build_start: Callable[[ModelSettings, Sequence[str], int], Start]
    """(settings, classes, seed) → the start model, its weights loaded."""
    describe: Callable[[ModelSettings], tuple[Architecture, Preprocessing]]
    """Settings → architecture and preprocessing, without reading or downloading weights."""
    build_empty: Callable[[Architecture], "tuple[nn.Module, int]"]
    """Architecture → randomly initialised backbone and its number of features."""
    normalise_features: bool
    """Whether features are scaled to length 1 before the head."""
    owns: Callable[[str], bool] = lambda name: False
    """Whether a `--model` is a network of this family. A name that no family owns is open_clip's."""


BUILDERS: dict[str, Family] = {
    OPEN_CLIP: Family(build_clip_start, describe_clip, build_empty_clip, normalise_features=True),
    TIMM: Family(build_timm_start, describe_timm, build_empty_timm, normalise_features=False, owns=is_timm),
    BASELINE: Family(
        build_baseline_start, describe_baseline, build_empty_baseline, False, lambda name: name == BASELINE
    ),
}


def _family_of(settings: ModelSettings) -> Family:
    owners = (family for family in BUILDERS.values() if family.owns(settings.model))
    return next(owners, BUILDERS[OPEN_CLIP])


def build_start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """Builds the common start of a pool: the backbone with its weights, and a zero-shot or random head.

    Args:
        settings: architecture, weights, templates and kind of head.
        classes: class names in the order of the logits.
        seed: seed of a random head, and of a random backbone (`--pretrained none`).

    Raises:
        UsageError: the architecture or tag is unknown.
        DataError: the weights file is damaged or does not fit; the message names the keys.
        EnvironmentFailure: the weights cannot be downloaded; the message says how to give a file instead.
    """
    return _family_of(settings).build_start(settings, classes, seed)


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Returns the card fields of `build_start` without reading or downloading weights.

    OpenAI's files are recognised by their content, so with `--pretrained FILE` only `build_start` knows the activation.
    """
    return _family_of(settings).describe(settings)


def build_empty(architecture: Architecture, classes: Sequence[str]) -> "Classifier":
    """Builds a classifier with a random backbone and a zero head, on the CPU, in evaluation mode.

    Reads no file, uses no network and builds no text tower.

    Raises:
        DataError: the installed libraries do not know the architecture's family, name or configuration.
    """
    from soups.models.classifier import Classifier

    if architecture.family not in BUILDERS:
        raise DataError(
            f"architecture {architecture.name!r} is of an unknown family",
            expected=f"one of {', '.join(BUILDERS)}",
            found=architecture.family,
        )
    family = BUILDERS[architecture.family]
    backbone, features = heads.seeded_build(lambda: family.build_empty(architecture), 0)
    return Classifier(backbone, heads.empty_head(features, len(classes)), family.normalise_features).eval()


def build_without_storage(architecture: Architecture, classes: Sequence[str], where: str) -> "Classifier":
    """Builds `build_empty` on the meta device (names, shapes and dtypes only) if the network supports that.

    Args:
        where: the file that names the architecture, for messages.

    Raises:
        DataError: as `build_empty`.
    """
    import torch

    try:
        with torch.device("meta"):
            return build_empty(architecture, classes)
    except RuntimeError:  # The constructors of some timm networks compute with values.
        try:
            return build_empty(architecture, classes)
        except RuntimeError as error:
            problem = f"{where}: its architecture cannot be built"
            raise DataError(problem, found=one_line(error, 200)) from error


def build_with_weights(
    architecture: Architecture, classes: Sequence[str], state: "Mapping[str, torch.Tensor]", where: str
) -> "Classifier":
    """Builds a classifier with copies of a state's weights, in float32, on the CPU, in evaluation mode.

    Checks the state's shapes before it allocates memory of the size that the architecture claims, and draws no random
    weights that the state would overwrite.

    Args:
        where: the file of the state, for messages.

    Raises:
        DataError: as `build_empty`, or the state does not fit the architecture; the message names the keys.
    """
    classifier = build_without_storage(architecture, classes, where)
    check_fit(classifier, state, where, architecture.name)
    saved = classifier.state_dict().keys()
    if any(buffer.is_meta for name, buffer in classifier.named_buffers() if name not in saved):
        # Checkpoints do not hold non-persistent buffers: the constructor must compute them.
        classifier = build_empty(architecture, classes)
    load_strictly(classifier, state, where, architecture.name)
    return classifier
