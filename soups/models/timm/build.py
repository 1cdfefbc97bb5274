"""timm's networks as backbones, with a linear head on their pooled features."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError
from soups.core.preprocessing import Preprocessing
from soups.models import heads, hub
from soups.models.model_args import find_problem
from soups.models.pretrained import load_backbone, load_strictly
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.models.timm.constructor import HIDDEN, CannotBuild, build, check_runs, count_features, known_arguments
from soups.models.timm.names import FAMILY, PREFIX, Plan, exact_name, make_plan

if TYPE_CHECKING:
    from torch import nn


def start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """The start of fine-tuning: a timm network without its classifier, and a random head.

    Raises:
        UsageError: an unknown name, tag or argument, a size that it cannot have, or `--head zero-shot`.
        DataError: weights that do not fit the model.
        EnvironmentFailure: the weights cannot be fetched.
    """
    from soups.models.classifier import Classifier

    if settings.head == "zero-shot":
        raise UsageError("--head zero-shot: timm's models have no text tower", next_step="leave --head out")
    plan = _plan(settings)
    model = heads.seeded_build(lambda: _built(settings, plan), seed)
    preprocessing = preprocessing_of(model, settings.image_size)
    if plan.arguments or settings.image_size is not None:
        _check_runs(settings, plan, model, preprocessing.size)
    shown = f"{PREFIX}{plan.name}"
    if plan.file is not None:
        load_backbone(model, plan.file, shown, classifier_names(model))
    head = heads.random_head(count_features(model), len(classes), seed)
    return Start(Classifier(model, head, normalise_features=False).eval(), _architecture(plan), preprocessing)


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Architecture and preprocessing of the start, with no weights read or fetched."""
    plan = replace(_plan(settings), published=False)
    model = heads.seeded_build(lambda: _built(settings, plan), 0)
    return _architecture(plan), preprocessing_of(model, settings.image_size)


def empty(architecture: Architecture) -> "tuple[nn.Module, int]":
    """The network (N, 3, S, S) → (N, D), randomly initialised, without its classifier, and D; nothing is fetched.

    Raises:
        DataError: the installed timm does not know this model, or cannot build it with these arguments.
    """
    name, arguments = architecture.name, architecture.arguments
    try:
        exact_name(name)
    except UsageError as error:
        raise DataError(f"architecture {name!r}: the installed timm does not know it") from error
    if problem := find_problem(list(arguments.values())):
        raise DataError(f"architecture {name!r}: its arguments make no sense", expected=problem, found=str(arguments))
    try:
        model = build(name, arguments)
    except CannotBuild as error:
        raise DataError(f"architecture {name!r}: timm cannot build it", found=str(error)) from error
    return model, count_features(model)


def classifier_names(model: Any) -> tuple[str, ...]:
    """The modules of the published classifier, which a backbone does not have."""
    names = model.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _architecture(plan: Plan) -> Architecture:
    return Architecture(family=FAMILY, name=plan.name, arguments=plan.arguments)


def _plan(settings: ModelSettings) -> Plan:
    """The plan with all arguments that the network is to be built with."""
    plan = make_plan(settings)
    given, size = settings.arguments, settings.image_size
    arguments = {**plan.arguments, **given}
    if size is None:
        return replace(plan, arguments=arguments)
    asked = given.get("img_size", size)
    if asked not in (size, [size, size]):
        raise UsageError(f"--image-size {size} and --model-args img_size={asked} differ", next_step="give one of them")
    usual = plan.configuration
    if "img_size" in arguments or (usual.get("fixed_input_size") and size != usual["input_size"][1]):
        arguments["img_size"] = size
    return replace(plan, arguments=arguments)


def _built(settings: ModelSettings, plan: Plan) -> Any:
    """The network, with its published weights where they are wanted.

    Raises:
        UsageError: an argument that it does not have, or a size that it cannot have.
        DataError: published weights that do not fit.
        EnvironmentFailure: they cannot be fetched.
    """
    try:
        if not plan.published:
            return build(plan.name, plan.arguments, plan.config)
        what = f"the weights of {settings.model if plan.config else f'{PREFIX}{plan.name}'}"
        if plan.config is None and not plan.arguments:
            return hub.fetch_from_hub(lambda: build(plan.name, {}, published=True), what)
        return _with_published(plan, what)
    except CannotBuild as error:
        raise _cannot(settings, plan, error) from error


def _with_published(plan: Plan, what: str) -> Any:
    """The network with published weights of which none is lost or drawn at random.

    timm loads leniently where the classifier has another number of classes, so that weights of another network would
    silently not be loaded: with the published number, all must fit.
    """
    config = plan.configuration
    model = build(plan.name, plan.arguments, plan.config)

    def load() -> Any:
        try:
            return build(plan.name, plan.arguments, plan.config, published=True, classes=config["num_classes"])
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise DataError(
                f"{what} do not fit the network",
                expected=f"--model-args {' '.join(f'{key}={value}' for key, value in plan.arguments.items())}",
                found=" ".join(str(error).split())[:300],
                next_step="start from random weights with --pretrained none, or leave --model-args out",
            ) from error

    whole = load() if config.get("source") == "local-dir" else hub.fetch_from_hub(load, what)
    left_out = (HIDDEN,) if plan.arguments.get(HIDDEN) is False else ()
    unused = tuple(f"{name}." for name in (*classifier_names(whole), *left_out))
    state = {key: tensor for key, tensor in whole.state_dict().items() if not key.startswith(unused)}
    load_strictly(model, state, what, plan.name)
    return model


def _check_runs(settings: ModelSettings, plan: Plan, model: Any, size: int) -> None:
    try:
        check_runs(model, size)
    except CannotBuild as error:
        raise _cannot(settings, plan, error) from error


def _cannot(settings: ModelSettings, plan: Plan, error: CannotBuild) -> UsageError:
    """The error for a network that cannot be built as it was asked for, or does not run."""
    shown = f"{PREFIX}{plan.name}"
    if error.unknown in settings.arguments:
        known = known_arguments(plan.name)
        near = difflib.get_close_matches(error.unknown, known, n=1)
        return UsageError(
            f"--model-args: {shown} has no argument {error.unknown!r}",
            expected=f"one of {', '.join(known)}",
            next_step=f"did you mean {near[0]!r}?" if near else "leave it out",
        )
    if settings.image_size is not None:
        usual = plan.configuration["input_size"][1]
        return UsageError(
            f"--image-size {settings.image_size}: {shown} cannot have inputs of this size",
            expected=f"such as {usual}, the size that it was made for",
            found=str(error),
            next_step="leave --image-size out, or give a multiple of 32",
        )
    return UsageError(
        f"--model-args {' '.join(settings.model_args or ())}: timm cannot build {shown} so",
        expected="arguments that fit together",
        found=str(error),
    )


def preprocessing_of(model: Any, image_size: int | None = None) -> Preprocessing:
    """timm's own evaluation preprocessing of a model, at another size where one is asked for.

    Raises:
        UsageError: a model whose input has one size only, or a preprocessing that is not supported.
    """
    import timm.data
    from timm.models import get_model_input_config

    config = timm.data.resolve_model_data_config(model)
    current = get_model_input_config(model)  # The configuration tells the size of the published weights.
    _, height, width = current["input_size"]
    if image_size is not None and image_size != height and current["fixed_input_size"]:
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
