"""timm's networks as backbones, with a linear head on their pooled features."""

import difflib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints import Architecture
from soups.errors import DataError, UsageError
from soups.models import heads, hub
from soups.models.pretrained import load_exactly, part, read_weights
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

FAMILY = "timm"
PREFIX = "timm:"
RANDOM = "none"


def exact_name(name: str) -> str:
    """timm's name, as it is.

    Raises:
        UsageError: timm has no model of this name (before the dot) or no such tag of it (after the dot).
    """
    import timm

    base, _, tag = name.partition(".")
    known = timm.list_models()
    if base not in known:
        near = difflib.get_close_matches(base, known, n=5, cutoff=0.5)
        raise UsageError(
            f"--model {PREFIX}{name}: timm has no such model",
            expected=f"one of timm's {len(known)} models",
            next_step=(f"did you mean {', '.join(near)}? " if near else "")
            + "`python -c 'import timm; print(*timm.list_models())'` lists all",
        )
    if tag and tag not in tags_of(base):
        raise UsageError(
            f"--model {PREFIX}{name}: {base} has no tag {tag!r}", expected=f"one of {', '.join(tags_of(base))}"
        )
    return name


def tags_of(base: str) -> list[str]:
    """The tags of pretrained weights of a timm model, its default first."""
    import timm

    default = getattr(timm.get_pretrained_cfg(base), "tag", None)
    found = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
    return sorted((tag for tag in found if tag), key=lambda tag: (tag != default, tag))


def plan(settings: ModelSettings) -> tuple[str, bool, Path | None]:
    """timm's full name, whether its published weights are wanted, and the file to read instead.

    Raises:
        UsageError: an unknown model or tag.
    """
    name = exact_name(settings.model.removeprefix(PREFIX))
    base, _, tag = name.partition(".")
    tags = tags_of(base)
    if settings.pretrained is None:
        if not tags:
            logger.warning("%s: timm has no weights for it; it starts from random ones", base)
        return (name if tag or not tags else f"{base}.{tags[0]}"), bool(tags), None
    if settings.pretrained == RANDOM:
        return name, False, None
    if settings.pretrained in tags:
        return f"{base}.{settings.pretrained}", True, None
    if Path(settings.pretrained).expanduser().is_file():
        return name, False, Path(settings.pretrained).expanduser()
    near = difflib.get_close_matches(settings.pretrained, tags, n=1)
    raise UsageError(
        f"--pretrained {settings.pretrained}: neither a file nor a tag of {base}",
        expected=f"a file, {RANDOM}, or one of the tags: {', '.join(tags) or 'there are none'}",
        next_step=f"did you mean {near[0]!r}?" if near else "check the path",
    )


def start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """The start of fine-tuning: a timm network without its classifier, and a random head.

    Raises:
        UsageError: an unknown name or tag, or `--head zero-shot`.
        DataError: a file that does not fit the model.
        EnvironmentFailure: the weights cannot be fetched.
    """
    from soups.models.classifier import Classifier

    if settings.head == "zero-shot":
        raise UsageError("--head zero-shot: timm's models have no text tower", next_step="leave --head out")
    name, published, file = plan(settings)

    def build() -> Any:
        return heads.seeded_build(lambda: _create(name, published), seed)

    model = hub.fetched(build, f"the weights of {PREFIX}{name}") if published else build()
    if file is not None:
        weights = read_weights(file)
        own = part(weights.state, "backbone.") or weights.state
        unused = tuple(f"{key}." for key in classifier_names(model))
        load_exactly(model, {k: v for k, v in own.items() if not k.startswith(unused)}, str(file), f"{PREFIX}{name}")
    head = heads.random_head(features_of(model), len(classes), seed)
    architecture = Architecture(family=FAMILY, name=name)
    preprocessing = preprocessing_of(model, settings.image_size)
    return Start(Classifier(model, head, normalise_features=False).eval(), architecture, preprocessing)


def classifier_names(model: Any) -> tuple[str, ...]:
    """The modules of the published classifier, which a backbone does not have."""
    names = model.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def features_of(model: Any) -> int:
    """How many features the model gives where it has no classifier."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Architecture and preprocessing of the start, with no weights read or fetched."""
    name, _, _ = plan(settings)
    model = heads.seeded_build(lambda: _create(name), 0)
    return Architecture(family=FAMILY, name=name), preprocessing_of(model, settings.image_size)


def empty(architecture: Architecture) -> "tuple[nn.Module, int]":
    """The network (N, 3, S, S) → (N, D), randomly initialised, without its classifier, and D; nothing is fetched.

    Raises:
        DataError: the installed timm does not know this model.
    """
    try:
        exact_name(architecture.name)
    except UsageError as error:
        raise DataError(f"architecture {architecture.name!r}: the installed timm does not know it") from error
    model = _create(architecture.name)
    return model, features_of(model)


def _create(name: str, pretrained: bool = False) -> Any:
    import timm

    return timm.create_model(name, pretrained=pretrained, num_classes=0)


def preprocessing_of(model: Any, image_size: int | None = None) -> Preprocessing:
    """timm's own evaluation preprocessing of a model, at another size where one is asked for.

    Raises:
        UsageError: a model whose input has one size only, or a preprocessing that is not supported.
    """
    import timm.data

    config = timm.data.resolve_model_data_config(model)
    _, height, width = config["input_size"]
    if image_size is not None and image_size != height and model.pretrained_cfg.get("fixed_input_size"):
        raise UsageError(
            f"--image-size {image_size}: {PREFIX}{model.pretrained_cfg.get('architecture', '')} has inputs of one size",
            expected=str(height),
            next_step="leave --image-size out",
        )
    height, width = (image_size or side for side in (height, width))
    known = {"bicubic", "bilinear", "nearest", "lanczos"}
    if height != width or config["interpolation"] not in known or config["crop_mode"] not in {"center", "squash"}:
        raise UsageError(
            f"--model {PREFIX}{model.pretrained_cfg.get('architecture', '')}: its preprocessing is not supported",
            expected=f"square images, cut out in the middle, one of {', '.join(sorted(known))}",
            found=f"{height} × {width}, {config['crop_mode']}, {config['interpolation']}",
        )
    # timm rounds the resized side down; this fraction gives that side whichever way it is rounded.
    resized = math.floor(height / config["crop_pct"])
    return Preprocessing(
        size=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize="squash" if config["crop_mode"] == "squash" else "shortest",
        crop_fraction=min(1.0, height / resized),
    )
