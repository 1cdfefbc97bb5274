"""Builds open_clip's networks: image towers with their weights, whole CLIPs, and zero-shot heads."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError, one_line
from soups.models import heads, hub
from soups.models.open_clip.names import (
    CLIP_CONFIG,
    CUSTOM,
    FOLDER_PREFIX,
    QUICK,
    OpenClipSource,
    evaluation_preprocessing,
    resolve_source,
)
from soups.models.pretrained import RANDOM, WeightsFile, load_strictly, read_weights, select_prefix
from soups.models.settings import ModelSettings
from soups.models.start import Start

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

# Exceptions of open_clip for a configuration that is not valid.
_BAD_CONFIGURATION = (TypeError, ValueError, KeyError, AssertionError, AttributeError, ZeroDivisionError)
# Limits of a card's configuration, far above every real network.
_MAX_LAYERS, _LARGEST_NUMBER = 1024, 65_536


def build_clip_start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """Builds the start model: an image tower with its weights, and a head for these classes.

    Raises:
        UsageError: the name or tag is unknown, or a zero-shot head has no weights of a text tower.
        DataError: the file does not fit the architecture.
        EnvironmentFailure: weights or tokenizer cannot be downloaded.
    """
    from soups.models.classifier import Classifier

    source = resolve_source(settings)
    weights = _read_source(source)
    source = _set_activation(source, weights)
    if _use_zero_shot(settings, weights) and weights is not None:
        backbone, head = _load_zero_shot(source, weights.state, str(weights.path), classes, settings.templates)
    else:
        backbone = _build_seeded(source, build_image_tower, seed)
        if weights is not None:
            tower = select_prefix(weights.state, "visual.")
            load_strictly(backbone, tower, str(weights.path), f"the image tower of {source}")
        head = heads.random_head(source.config["embed_dim"], len(classes), seed)
    classifier = Classifier(backbone, head, normalise_features=True).eval()
    return Start(classifier, source.architecture, evaluation_preprocessing(source))


def zero_shot_from_text_tower(
    settings: ModelSettings, state: "Mapping[str, torch.Tensor]", where: str, classes: Sequence[str]
) -> "nn.Linear":
    """Returns the zero-shot head of the text tower in a whole CLIP's checkpoint.

    Args:
        settings: architecture and templates; its weights are not read.
        state: both towers under open_clip's keys.
        where: the file of the state, for messages.
        classes: class names in the order of the logits.

    Raises:
        DataError: the state does not fit the architecture.
        EnvironmentFailure: the tokenizer cannot be downloaded.
    """
    return _load_zero_shot(resolve_source(settings), state, where, classes, settings.templates)[1]


def _load_zero_shot(
    source: OpenClipSource,
    state: "Mapping[str, torch.Tensor]",
    where: str,
    classes: Sequence[str],
    templates: Sequence[str],
) -> "tuple[nn.Module, nn.Linear]":
    """Returns the image tower and the zero-shot head of a whole CLIP with these weights."""
    import open_clip

    def build() -> tuple[Any, Any]:
        clip = _build_seeded(source, build_clip, 0).eval()
        return clip, open_clip.get_tokenizer(f"{FOLDER_PREFIX}{source.folder}" if source.folder else source.name)

    text = source.config["text_cfg"]
    if "hf_model_name" in text or "hf_tokenizer_name" in text or "siglip" in source.name.lower():
        next_step = "use a head without text tower: --head random"
        clip, tokenizer = hub.fetch_from_hub(build, f"the text tower or tokenizer of {source}", next_step)
    else:
        clip, tokenizer = build()
    load_strictly(clip, _convert_state(state, clip), where, str(source))
    return clip.visual, heads.zero_shot_head(clip, tokenizer, classes, templates)


def _build_seeded(source: OpenClipSource, build: "Callable[[dict[str, Any]], nn.Module]", seed: int) -> Any:
    """Returns `build(config)`, seeded; a folder's configuration that open_clip cannot build raises DataError."""
    try:
        return heads.seeded_build(lambda: build(source.config), seed)
    except _BAD_CONFIGURATION as error:
        if source.folder is None:
            raise
        problem = f"{source.folder / CLIP_CONFIG}: open_clip cannot build this model"
        raise DataError(problem, found=one_line(error, 200)) from error


def _read_source(source: OpenClipSource) -> WeightsFile | None:
    """Returns the weights of a tag or file, the image tower under `visual.*`; None for random weights."""
    import open_clip

    file = source.file
    if source.tag is not None:
        published = open_clip.get_pretrained_cfg(source.name, source.tag)
        file = hub.fetch_from_hub(lambda: open_clip.download_pretrained(published), f"the weights of {source}")
    if file is None:
        return None
    weights = read_weights(Path(file))
    if any(key.startswith(("visual.", "image_encoder.")) for key in weights.state):
        return weights
    # One of our own checkpoints, or an image tower alone.
    tower = select_prefix(weights.state, "backbone.") or weights.state
    return replace(weights, state={f"visual.{key}": tensor for key, tensor in tower.items()})


def _set_activation(source: OpenClipSource, weights: WeightsFile | None) -> OpenClipSource:
    """Returns the source with quick-GELU if OpenAI published the weights file; logs that other files get GELU."""
    import open_clip

    quick = source.name + QUICK
    if weights is None or source.tag or source.config.get("quick_gelu") or quick not in open_clip.list_models():
        return source
    if weights.openai:
        return replace(source, name=quick, config=open_clip.get_model_config(quick))
    assumed = "%s: assumed to be trained with GELU; if OpenAI published the weights, give --model %s"
    logger.info(assumed, weights.path, quick)
    return source


def _use_zero_shot(settings: ModelSettings, weights: WeightsFile | None) -> bool:
    """Returns whether the head is zero-shot; raises UsageError if it must be and there is no text tower."""
    if settings.head == "random":
        return False
    has_text = weights is not None and any(not key.startswith("visual.") for key in weights.state)
    if settings.head == "zero-shot" and not has_text:
        raise UsageError(
            "--head zero-shot: there are no weights of a text tower",
            found=str(weights.path) if weights else f"--pretrained {RANDOM}",
            next_step="leave --head out, or give weights of a whole CLIP",
        )
    if weights is not None and not has_text:
        logger.info("%s: holds no text tower; starting from a random head", weights.path)
    return has_text


def _convert_state(state: "Mapping[str, torch.Tensor]", clip: "nn.Module") -> "dict[str, torch.Tensor]":
    """Returns a state under the model's keys, by open_clip's conversions of older and other formats."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    converted, own = convert_state_dict(clip, dict(state)), clip.state_dict()
    if "positional_embedding" in converted and "positional_embedding" not in own:
        converted = convert_to_custom_text_state_dict(converted)
    if "logit_bias" in own:
        converted.setdefault("logit_bias", own["logit_bias"])
    for key in {"logit_scale", "logit_bias"} & converted.keys() & own.keys():
        converted[key] = converted[key].reshape(own[key].shape)
    if "text.transformer.embeddings.position_ids" not in own:
        converted.pop("text.transformer.embeddings.position_ids", None)
    return converted


def image_tower_config(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the `vision_cfg` of an open_clip `model_cfg`, for an image tower alone."""
    # Without timm's pretrained weights, and with one output tensor instead of CoCa's two.
    return {**config["vision_cfg"], "timm_model_pretrained": False, "output_tokens": False}


def model_config(architecture: Architecture) -> dict[str, Any]:
    """Returns open_clip's `model_cfg` of a card's architecture, with at least `embed_dim` and `vision_cfg`.

    Raises:
        DataError: the installed open_clip does not know this architecture.
    """
    import open_clip

    config = architecture.config if architecture.name == CUSTOM else open_clip.get_model_config(architecture.name)
    named = architecture.name != CUSTOM
    if config is None or (named and bool(config.get("quick_gelu")) != architecture.quick_gelu):
        raise DataError(f"architecture {architecture.name!r}: the installed open_clip does not know it")
    return config


def build_empty_clip(architecture: Architecture) -> "tuple[nn.Module, int]":
    """Returns a randomly initialised image tower and its number of features, without downloads.

    Raises:
        DataError: the installed open_clip does not know the architecture, or cannot build it.
    """
    config = model_config(architecture)
    _check_config_size(architecture)
    try:
        return build_image_tower({**config, "quick_gelu": architecture.quick_gelu}), config["embed_dim"]
    except _BAD_CONFIGURATION as error:
        found = one_line(error, 200)
        raise DataError(f"architecture {architecture.name!r}: open_clip cannot build it", found=found) from error


def _check_config_size(architecture: Architecture) -> None:
    """Raises DataError for a hostile card's configuration: building it could exhaust memory or never end."""
    if architecture.config is None:
        return
    import timm

    tower = architecture.config.get("vision_cfg")
    tower = tower if isinstance(tower, dict) else {}
    layers = tower.get("layers", 0)
    numbers = [architecture.config.get("embed_dim"), *tower.values()]
    known = tower.get("timm_model_name") or ""
    if (
        sum(layers if isinstance(layers, list) else [layers]) > _MAX_LAYERS
        or any(isinstance(number, int | float) and not 0 <= number <= _LARGEST_NUMBER for number in numbers)
        or (known and str(known).partition(".")[0] not in timm.list_models())
    ):
        raise DataError(
            f"architecture {architecture.name!r}: too large or unknown to build",
            expected=f"at most {_MAX_LAYERS} layers, numbers up to {_LARGEST_NUMBER}, and towers that timm knows",
            found=str(tower)[:200],
        )


def build_image_tower(config: dict[str, Any]) -> "nn.Module":
    """Returns a randomly initialised image tower (N, 3, S, S) → (N, embed_dim) of an open_clip `model_cfg`."""
    # open_clip has no public name for this; its own model classes call it.
    from open_clip.model import _build_vision_tower

    return _build_vision_tower(config["embed_dim"], image_tower_config(config), bool(config.get("quick_gelu")))


def build_clip(config: dict[str, Any]) -> "nn.Module":
    """Returns a model of the class that `open_clip.create_model` chooses, without its downloads and global logging."""
    import open_clip

    config = copy.deepcopy(config)
    config["vision_cfg"] = image_tower_config(config)
    custom_text = config.pop("custom_text", False)
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"], custom_text = False, True
    if "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    return open_clip.CustomTextCLIP(**config) if custom_text else open_clip.CLIP(**config)
