"""Classifiers from settings (a start) or from a card's architecture (empty, to be filled from a checkpoint)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.models import heads
from soups.models.baseline import build as baseline
from soups.models.open_clip import build as clip_models
from soups.models.open_clip import names as clip_names
from soups.models.pretrained import check_fit, load_strictly
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.models.timm import build as timm_models
from soups.models.timm import names as timm_names

if TYPE_CHECKING:
    import torch
    from torch import nn

    from soups.models.classifier import Classifier


@dataclass(frozen=True)
class Family:
    """A library of backbones."""

    start: Callable[[ModelSettings, Sequence[str], int], Start]
    """(settings, classes, seed) → the start with the wanted weights."""
    describe: Callable[[ModelSettings], tuple[Architecture, Preprocessing]]
    """Settings → architecture and preprocessing, with no weights read or fetched."""
    empty: Callable[[Architecture], "tuple[nn.Module, int]"]
    """Architecture → randomly initialised backbone and the number of its features."""
    normalise_features: bool
    """Whether features are scaled to length 1 before the head."""
    owns: Callable[[str], bool] = lambda name: False
    """Whether a `--model` names a network of this family; a name that none owns is open_clip's."""


BUILDERS: dict[str, Family] = {
    clip_names.FAMILY: Family(clip_models.start, clip_names.describe, clip_models.empty, True),
    timm_names.FAMILY: Family(timm_models.start, timm_models.describe, timm_models.empty, False, timm_names.is_timm),
    baseline.FAMILY: Family(
        baseline.start, baseline.describe, baseline.empty, False, lambda name: name == baseline.NAME
    ),
}


def _family(settings: ModelSettings) -> Family:
    owners = (family for family in BUILDERS.values() if family.owns(settings.model))
    return next(owners, BUILDERS[clip_names.FAMILY])


def build_start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """The common start of a pool: backbone with the wanted weights, head zero-shot or random.

    Args:
        settings: architecture, weights, templates and kind of head.
        classes: class names in the order of the logits.
        seed: of whatever is random (a random head; a backbone with `--pretrained none`).

    Raises:
        UsageError: an unknown architecture or tag.
        DataError: a weights file that is damaged or does not fit; names the keys.
        EnvironmentFailure: weights that cannot be fetched; says what was tried and how to give a file.
    """
    return _family(settings).start(settings, classes, seed)


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """What `build_start` would put into the card, with no weights read or fetched.

    A file of OpenAI's own is told by its content, so with `--pretrained FILE` only the start knows its activation.
    """
    return _family(settings).describe(settings)


def build_empty(architecture: Architecture, classes: Sequence[str]) -> "Classifier":
    """A classifier of this architecture with random backbone and zero head, on the CPU, in evaluation mode.

    No file, network or text tower is touched.

    Raises:
        DataError: the architecture's family, name or configuration is unknown to the installed libraries.
    """
    from soups.models.classifier import Classifier

    if architecture.family not in BUILDERS:
        raise DataError(
            f"architecture {architecture.name!r} is of an unknown family",
            expected=f"one of {', '.join(BUILDERS)}",
            found=architecture.family,
        )
    family = BUILDERS[architecture.family]
    built: list[int] = []

    def build() -> "nn.Module":
        backbone, features = family.empty(architecture)
        built.append(features)
        return backbone

    backbone = heads.seeded_build(build, 0)
    return Classifier(backbone, heads.empty_head(built[0], len(classes)), family.normalise_features).eval()


def build_without_storage(architecture: Architecture, classes: Sequence[str], where: str) -> "Classifier":
    """`build_empty` without storage: names, shapes and types alone, where the network can be built so.

    Args:
        where: the file that names the architecture, for messages.

    Raises:
        DataError: as `build_empty`.
    """
    import torch

    try:
        with torch.device("meta"):
            return build_empty(architecture, classes)
    except (NotImplementedError, RuntimeError):  # Some of timm's towers compute while they are built.
        try:
            return build_empty(architecture, classes)
        except RuntimeError as error:
            found = " ".join(str(error).split())[:200]
            raise DataError(f"{where}: its architecture cannot be built", found=found) from error


def build_with_weights(
    architecture: Architecture, classes: Sequence[str], state: "Mapping[str, torch.Tensor]", where: str
) -> "Classifier":
    """`build_empty` with the weights of a state, copied, as float32.

    The state's shapes are checked before anything of the size that the architecture claims is made, and weights that
    would be overwritten are not drawn first.

    Args:
        where: the file that the state comes from, for messages.

    Raises:
        DataError: as `build_empty`, or the state does not fit the architecture; names the keys.
    """
    classifier = build_without_storage(architecture, classes, where)
    check_fit(classifier, state, where, architecture.name)
    saved = classifier.state_dict().keys()
    if any(buffer.is_meta for name, buffer in classifier.named_buffers() if name not in saved):
        # What no checkpoint holds must be computed.
        classifier = build_empty(architecture, classes)
    load_strictly(classifier, state, where, architecture.name)
    return classifier
