"""Builds timm networks as backbones: the start model with its weights, or an empty network from a card."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError, did_you_mean, one_line
from soups.core.preprocessing import Preprocessing
from soups.models import heads, hub
from soups.models.model_args import find_argument_problem
from soups.models.pretrained import load_backbone, load_strictly
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.models.timm.constructor import HIDDEN_LAYERS, CannotBuild, build, check_runs, count_features, known_arguments
from soups.models.timm.names import PREFIX, TimmSource, classifier_names, exact_name, resolve_source

if TYPE_CHECKING:
    from torch import nn


def build_timm_start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """Builds the start model: a timm network without its classifier, and a random head.

    Raises:
        UsageError: the name, tag or an argument is unknown, the size is not supported, or `--head zero-shot`.
        DataError: the weights do not fit the model.
        EnvironmentFailure: the weights cannot be downloaded.
    """
    from soups.models.classifier import Classifier

    if settings.head == "zero-shot":
        raise UsageError("--head zero-shot: timm's models have no text tower", next_step="leave --head out")
    source = _resolve_arguments(settings)
    try:
        model = heads.seeded_build(lambda: _build_network(settings, source), seed)
        preprocessing = evaluation_preprocessing(model, settings.image_size)
        if source.arguments or settings.image_size is not None:
            check_runs(model, preprocessing.size)
    except CannotBuild as error:
        raise _explain_failure(settings, source, error) from error
    if source.file is not None:
        load_backbone(model, source.file, f"{PREFIX}{source.name}", classifier_names(model.pretrained_cfg))
    head = heads.random_head(count_features(model), len(classes), seed)
    return Start(Classifier(model, head, normalise_features=False).eval(), source.architecture, preprocessing)


def describe_timm(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Returns the start model's architecture and preprocessing without reading or downloading weights."""
    source = _resolve_arguments(settings)
    try:
        model = heads.seeded_build(lambda: build(source.name, source.arguments, source.config), 0)
    except CannotBuild as error:
        raise _explain_failure(settings, source, error) from error
    return source.architecture, evaluation_preprocessing(model, settings.image_size)


def build_empty_timm(architecture: Architecture) -> "tuple[nn.Module, int]":
    """Returns the network (N, 3, S, S) → (N, D), randomly initialised, without its classifier, and D.

    Raises:
        DataError: the installed timm does not know the model, or cannot build it with these arguments.
    """
    name, arguments = architecture.name, architecture.arguments
    try:
        exact_name(name)
    except UsageError as error:
        raise DataError(f"architecture {name!r}: the installed timm does not know it") from error
    if problem := find_argument_problem(list(arguments.values())):
        raise DataError(f"architecture {name!r}: its arguments are not valid", expected=problem, found=str(arguments))
    try:
        model = build(name, arguments)
    except CannotBuild as error:
        raise DataError(f"architecture {name!r}: timm cannot build it", found=str(error)) from error
    return model, count_features(model)


def _resolve_arguments(settings: ModelSettings) -> TimmSource:
    """Returns the network and the source of its weights, with all constructor arguments."""
    source, size = resolve_source(settings), settings.image_size
    arguments = {**source.arguments, **settings.arguments}
    if size is not None:
        other = settings.arguments.get("img_size", size)
        if other not in (size, [size, size]):
            problem = f"--image-size {size} and --model-args img_size={other} differ"
            raise UsageError(problem, next_step="give one of them")
        default = source.configuration
        if "img_size" in arguments or (default.get("fixed_input_size") and size != default["input_size"][1]):
            arguments["img_size"] = size
    return replace(source, arguments=arguments)


def _build_network(settings: ModelSettings, source: TimmSource) -> Any:
    """Returns the network, with its published weights if `source` says so.

    If its classifier has another size than the published one, timm loads non-strictly, and would silently skip weights
    of another network. So with constructor arguments this loads the network with the published number of classes,
    strictly, and copies the backbone.

    Raises:
        CannotBuild: an argument is unknown, or the arguments do not fit each other.
        DataError: the published weights do not fit.
        EnvironmentFailure: the weights cannot be downloaded.
    """
    if not source.published:
        return build(source.name, source.arguments, source.config)
    what = f"the weights of {settings.model if source.config else f'{PREFIX}{source.name}'}"
    if source.config is None and not source.arguments:
        return hub.fetch_from_hub(lambda: build(source.name, {}, published=True), what)
    config = source.configuration
    model = build(source.name, source.arguments, source.config)

    def load() -> Any:
        try:
            return build(source.name, source.arguments, source.config, published=True, classes=config["num_classes"])
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise DataError(
                f"{what} do not fit the network",
                expected=f"--model-args {' '.join(f'{key}={value}' for key, value in source.arguments.items())}",
                found=one_line(error),
                next_step="start from random weights with --pretrained none, or leave --model-args out",
            ) from error

    whole = load() if config.get("source") == "local-dir" else hub.fetch_from_hub(load, what)
    removed = (HIDDEN_LAYERS,) if source.arguments.get(HIDDEN_LAYERS) is False else ()
    unused = tuple(f"{name}." for name in (*classifier_names(whole.pretrained_cfg), *removed))
    state = {key: tensor for key, tensor in whole.state_dict().items() if not key.startswith(unused)}
    load_strictly(model, state, what, source.name)
    return model


def _explain_failure(settings: ModelSettings, source: TimmSource, error: CannotBuild) -> UsageError:
    """Returns the error for a network that cannot be built with the settings, or does not run."""
    shown = f"{PREFIX}{source.name}"
    if error.unknown in settings.arguments:
        known = known_arguments(source.name)
        return UsageError(
            f"--model-args: {shown} has no argument {error.unknown!r}",
            expected=f"one of {', '.join(known)}",
            next_step=did_you_mean(error.unknown, known, "leave it out"),
        )
    if settings.image_size is not None:
        default = source.configuration["input_size"][1]
        return UsageError(
            f"--image-size {settings.image_size}: {shown} does not support this input size",
            expected=f"such as {default}, the size of the published weights",
            found=str(error),
            next_step="leave --image-size out, or give a multiple of 32",
        )
    return UsageError(
        f"--model-args {' '.join(settings.model_args or ())}: timm cannot build {shown} with these arguments",
        expected="arguments that are valid together",
        found=str(error),
    )


def evaluation_preprocessing(model: Any, image_size: int | None = None) -> Preprocessing:
    """Returns timm's evaluation preprocessing of a model, at `image_size` if given.

    Raises:
        UsageError: the model supports one input size only, or its preprocessing is not supported.
    """
    import timm.data
    from timm.models import get_model_input_config

    name = f"{PREFIX}{model.pretrained_cfg.get('architecture', '')}"
    config = timm.data.resolve_model_data_config(model)
    current = get_model_input_config(model)  # `config` has the size of the published weights.
    _, height, width = current["input_size"]
    if image_size is not None and image_size != height and current["fixed_input_size"]:
        raise UsageError(
            f"--image-size {image_size}: {name} supports one input size only",
            expected=str(height),
            next_step="leave --image-size out",
        )
    height, width = (image_size or side for side in (height, width))
    known = {"bicubic", "bilinear", "nearest", "lanczos"}
    if height != width or config["interpolation"] not in known or config["crop_mode"] not in {"center", "squash"}:
        raise UsageError(
            f"--model {name}: its preprocessing is not supported",
            expected=f"square images, cropped in the centre, one of {', '.join(sorted(known))}",
            found=f"{height} × {width}, {config['crop_mode']}, {config['interpolation']}",
        )
    # timm rounds the resized side down; this fraction gives the same side with any rounding.
    resized = math.floor(height / config["crop_pct"])
    return Preprocessing(
        size=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize="squash" if config["crop_mode"] == "squash" else "shortest",
        crop_fraction=min(1.0, height / resized),
    )
