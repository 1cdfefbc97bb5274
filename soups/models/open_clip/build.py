"""open_clip's networks: image towers with exactly the right weights, and their zero-shot heads."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError
from soups.models import heads, hub
from soups.models.open_clip.folder import CONFIG_FILE
from soups.models.open_clip.names import CUSTOM, FOLDER_PREFIX, QUICK, RANDOM, Plan, make_plan, preprocessing_of
from soups.models.pretrained import Weights, load_strictly, read_weights, select_prefix
from soups.models.settings import ModelSettings
from soups.models.start import Start

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

# What open_clip raises for a configuration that makes no sense.
_BAD_CONFIGURATION = (TypeError, ValueError, KeyError, AssertionError, AttributeError, ZeroDivisionError)
# Limits of a configuration that a checkpoint brings along, far above every real network.
_MOST_LAYERS, _LARGEST_NUMBER = 1024, 65_536


def start(settings: ModelSettings, classes: Sequence[str], seed: int) -> Start:
    """The start of fine-tuning: a tower with the wanted weights and a head for these classes.

    Raises:
        UsageError: an unknown name or tag, or a zero-shot head without weights.
        DataError: a file that does not fit the architecture.
        EnvironmentFailure: weights or tokenizer cannot be fetched.
    """
    from soups.models.classifier import Classifier

    plan = make_plan(settings)
    weights = _weights(plan)
    plan = _with_right_activation(plan, weights)
    backbone: nn.Module
    if _wants_zero_shot(settings, weights) and weights is not None:
        clip, tokenizer = _with_text(plan, seed)
        load_strictly(clip, _fitting(weights, clip), str(weights.path), str(plan))
        backbone = clip.visual
        head = heads.zero_shot_head(clip, tokenizer, classes, settings.templates)
    else:
        backbone = _built(plan, visual_tower, seed)
        if weights is not None:
            load_strictly(
                backbone, select_prefix(weights.state, "visual."), str(weights.path), f"the image tower of {plan}"
            )
        head = heads.random_head(plan.config["embed_dim"], len(classes), seed)
    classifier = Classifier(backbone, head, normalise_features=True).eval()
    return Start(classifier, plan.architecture, preprocessing_of(plan))


def zero_shot_from_text_tower(
    settings: ModelSettings, state: "Mapping[str, torch.Tensor]", where: str, classes: Sequence[str]
) -> "nn.Linear":
    """The zero-shot head of a whole CLIP's own text tower, as a fine-tuned CLIP's checkpoint has it.

    Args:
        settings: say the architecture and the templates; their weights are not read.
        state: both towers under open_clip's names.
        where: the file that they come from, for messages.
        classes: class names in the order of the logits.

    Raises:
        DataError: the state does not fit the architecture.
        EnvironmentFailure: the tokenizer cannot be fetched.
    """
    plan = make_plan(settings)
    clip, tokenizer = _with_text(plan, 0)
    load_strictly(clip, _fitting(Weights(Path(where), dict(state)), clip), where, str(plan))
    return heads.zero_shot_head(clip, tokenizer, classes, settings.templates)


def _with_text(plan: Plan, seed: int) -> tuple[Any, Any]:
    """The whole CLIP, randomly initialised, and its tokenizer."""

    def build() -> tuple[Any, Any]:
        return _built(plan, whole_clip, seed).eval(), _tokenizer(plan)

    text = plan.config["text_cfg"]
    if "hf_model_name" not in text and "hf_tokenizer_name" not in text and "siglip" not in plan.name.lower():
        return build()
    next_step = "give --head random, which needs no text tower"
    return hub.fetch_from_hub(build, f"the text tower or tokenizer of {plan}", next_step)


def _built(plan: Plan, build: "Callable[[dict[str, Any]], nn.Module]", seed: int) -> Any:
    try:
        return heads.seeded_build(lambda: build(plan.config), seed)
    except _BAD_CONFIGURATION as error:
        if plan.folder is None:
            raise
        problem = f"{plan.folder / CONFIG_FILE}: open_clip cannot build this model"
        raise DataError(problem, found=" ".join(str(error).split())[:200]) from error


def _weights(plan: Plan) -> Weights | None:
    import open_clip

    file = plan.file
    if plan.tag is not None:
        source = open_clip.get_pretrained_cfg(plan.name, plan.tag)
        found = hub.fetch_from_hub(lambda: open_clip.download_pretrained(source), f"the weights of {plan}")
        file = Path(found)
    if file is None:
        return None
    weights = read_weights(file)
    if any(key.startswith(("visual.", "image_encoder.")) for key in weights.state):
        return weights
    # One of our own checkpoints, or a visual tower by itself.
    tower = select_prefix(weights.state, "backbone.") or weights.state
    return replace(weights, state={f"visual.{key}": tensor for key, tensor in tower.items()})


def _with_right_activation(plan: Plan, weights: Weights | None) -> Plan:
    import open_clip

    if weights is None or plan.tag or plan.config.get("quick_gelu") or plan.name + QUICK not in open_clip.list_models():
        return plan
    if weights.openai:
        return replace(plan, name=plan.name + QUICK, config=open_clip.get_model_config(plan.name + QUICK))
    logger.info(
        "%s: taken for weights trained with GELU; if they are OpenAI's, give --model %s",
        weights.path,
        plan.name + QUICK,
    )
    return plan


def _wants_zero_shot(settings: ModelSettings, weights: Weights | None) -> bool:
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
        logger.info("%s: holds no text tower; the head starts at random", weights.path)
    return has_text


def _fitting(weights: Weights, clip: "nn.Module") -> "dict[str, Any]":
    """The file's state in the form of this model: open_clip's own conversions of older and others' files."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(clip, dict(weights.state))
    own = clip.state_dict()
    if "positional_embedding" in state and "positional_embedding" not in own:
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in own:
            state[key] = state[key].reshape(own[key].shape)
        elif key in own and key == "logit_bias":
            state[key] = own[key]
    if "text.transformer.embeddings.position_ids" not in own:
        state.pop("text.transformer.embeddings.position_ids", None)
    return state


def tower_config(config: dict[str, Any]) -> dict[str, Any]:
    """An open_clip `model_cfg`'s `vision_cfg`, for a tower by itself."""
    # No base weights of timm's, and one tensor out rather than CoCa's pair.
    return {**config["vision_cfg"], "timm_model_pretrained": False, "output_tokens": False}


def config_of(architecture: Architecture) -> dict[str, Any]:
    """open_clip's `model_cfg` of a card's architecture, at least `embed_dim` and `vision_cfg`.

    Raises:
        DataError: the installed open_clip does not know this architecture.
    """
    import open_clip

    config = architecture.config if architecture.name == CUSTOM else open_clip.get_model_config(architecture.name)
    named = architecture.name != CUSTOM
    if config is None or (named and bool(config.get("quick_gelu")) != architecture.quick_gelu):
        raise DataError(f"architecture {architecture.name!r}: the installed open_clip does not know it")
    return config


def empty(architecture: Architecture) -> "tuple[nn.Module, int]":
    """A randomly initialised image tower and the number of its features; nothing is fetched.

    Raises:
        DataError: the installed open_clip does not know this architecture, or cannot build it.
    """
    config = config_of(architecture)
    _refuse_giant(architecture)
    try:
        return visual_tower({**config, "quick_gelu": architecture.quick_gelu}), config["embed_dim"]
    except _BAD_CONFIGURATION as error:
        found = " ".join(str(error).split())[:200]
        raise DataError(f"architecture {architecture.name!r}: open_clip cannot build it", found=found) from error


def _refuse_giant(architecture: Architecture) -> None:
    """Refuse a configuration from a hostile card: building it would fill the memory or take forever."""
    if architecture.config is None:
        return
    import timm

    tower = architecture.config.get("vision_cfg")
    tower = tower if isinstance(tower, dict) else {}
    layers = tower.get("layers", 0)
    numbers = [architecture.config.get("embed_dim"), *tower.values()]
    known = tower.get("timm_model_name") or ""
    if (
        sum(layers if isinstance(layers, list) else [layers]) > _MOST_LAYERS
        or any(isinstance(number, int | float) and not 0 <= number <= _LARGEST_NUMBER for number in numbers)
        or (known and str(known).partition(".")[0] not in timm.list_models())
    ):
        raise DataError(
            f"architecture {architecture.name!r}: not a network that can be built",
            expected=f"at most {_MOST_LAYERS} layers, numbers up to {_LARGEST_NUMBER}, and towers that timm knows",
            found=str(tower)[:200],
        )


def visual_tower(config: dict[str, Any]) -> "nn.Module":
    """An image tower (N, 3, S, S) → (N, embed_dim) of an open_clip `model_cfg`, randomly initialised, no text tower."""
    # open_clip has no public name for this; its own model classes call it.
    from open_clip.model import _build_vision_tower

    return _build_vision_tower(config["embed_dim"], tower_config(config), bool(config.get("quick_gelu")))


def whole_clip(config: dict[str, Any]) -> "nn.Module":
    """The model class that `open_clip.create_model` would choose, without its downloads and global logging."""
    import open_clip

    config = copy.deepcopy(config)
    config["vision_cfg"] = tower_config(config)
    custom_text = config.pop("custom_text", False)
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"], custom_text = False, True
    if "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    return open_clip.CustomTextCLIP(**config) if custom_text else open_clip.CLIP(**config)


def _tokenizer(plan: Plan) -> Any:
    import open_clip

    return open_clip.get_tokenizer(f"{FOLDER_PREFIX}{plan.folder}" if plan.folder else plan.name)
