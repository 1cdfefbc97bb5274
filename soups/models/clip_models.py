"""open_clip's networks: names as users write them, towers with exactly the right weights, zero-shot heads."""

import copy
import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints import Architecture
from soups.errors import DataError, UsageError
from soups.models import heads, hub
from soups.models.clip_folder import CONFIG_FILE, read_folder
from soups.models.pretrained import Weights, load_exactly, part, read_weights
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

FAMILY = "open_clip"
CUSTOM = "custom"
FOLDER_PREFIX = "local-dir:"
QUICK = "-quickgelu"
RANDOM = "none"


@dataclass(frozen=True)
class Plan:
    """Which network, and where its weights come from."""

    name: str
    """open_clip's exact name, or `custom`."""
    config: dict[str, Any]
    """open_clip's `model_cfg`, text tower included."""
    preprocess: dict[str, Any]
    """open_clip's `preprocess_cfg`, as far as it is known."""
    tag: str | None = None
    file: Path | None = None
    folder: Path | None = None

    @property
    def architecture(self) -> Architecture:
        config = None
        if self.name == CUSTOM:
            config = {key: self.config[key] for key in ("embed_dim", "vision_cfg")}
        return Architecture(
            family=FAMILY, name=self.name, quick_gelu=bool(self.config.get("quick_gelu")), config=config
        )

    def __str__(self) -> str:
        shown = f"{FOLDER_PREFIX}{self.folder}" if self.folder else self.name
        return f"{shown}, tag {self.tag}" if self.tag else shown


def exact_name(name: str) -> str:
    """open_clip's name for an architecture: `ViT-B/32` and `vit-b-32` → `ViT-B-32`, `ViT-L/14@336px` → `ViT-L-14-336`.

    Raises:
        UsageError: there is none of this name; names the nearest.
    """
    import open_clip

    known = open_clip.list_models()
    wanted = name.strip().replace("/", "-").replace("@", "-").removesuffix("px").casefold()
    by_folded = {model.casefold(): model for model in known}
    if wanted in by_folded:
        return by_folded[wanted]
    near = [by_folded[key] for key in difflib.get_close_matches(wanted, by_folded, n=5, cutoff=0.5)]
    raise UsageError(
        f"--model {name}: open_clip has no such architecture",
        expected=f"one of open_clip's {len(known)} architectures, timm:NAME or {FOLDER_PREFIX}FOLDER",
        next_step=(f"did you mean {', '.join(near)}? " if near else "")
        + "`python -c 'import open_clip; print(*open_clip.list_models())'` lists all",
    )


def make_plan(settings: ModelSettings) -> Plan:
    """Decide architecture and source of the weights, without fetching any.

    Raises:
        UsageError: an unknown architecture or tag.
        DataError: a `local-dir:` folder that is missing or incomplete.
    """
    if settings.model.startswith(FOLDER_PREFIX):
        return _folder_plan(settings)
    import open_clip

    name = exact_name(settings.model)
    tag, file = _tag_or_file(name, settings.pretrained)
    # Preprocessing follows the tag; for a file or random weights, the tag that the architecture would have had.
    source = open_clip.get_pretrained_cfg(name, tag or _default_tag(name) or "")
    if tag and source.get("quick_gelu") and not name.endswith(QUICK):
        name += QUICK
    return Plan(name, open_clip.get_model_config(name), source, tag=tag, file=file)


def _default_tag(name: str) -> str | None:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    return "openai" if "openai" in tags else next(iter(tags), None)


def _tag_or_file(name: str, pretrained: str | None) -> tuple[str | None, Path | None]:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        tag = _default_tag(name)
        if tag is None:
            logger.warning("%s: open_clip has no weights for it; it starts from random ones", name)
        elif tag != "openai":
            others = f"; others: {', '.join(tags[1:])}" if tags[1:] else ""
            logger.info("%s: OpenAI published no weights for it; taking --pretrained %s%s", name, tag, others)
        return tag, None
    if pretrained == RANDOM:
        return None, None
    if open_clip.get_pretrained_cfg(name, pretrained):
        return pretrained.lower().replace("-", "_"), None
    if Path(pretrained).is_file():
        return None, Path(pretrained)
    raise not_a_source(pretrained, name, tags)


def not_a_source(pretrained: str, name: str, tags: Sequence[str]) -> UsageError:
    """The error for a `--pretrained` that is neither a tag nor a file."""
    near = difflib.get_close_matches(pretrained, tags, n=1)
    listed = ", ".join(tags) if tags else f"{name} has no tags"
    return UsageError(
        f"--pretrained {pretrained}: neither a file nor a tag of {name}",
        expected=f"a file, {RANDOM}, or one of the tags: {listed}",
        next_step=f"did you mean {near[0]!r}?" if near else "check the path",
    )


def _folder_plan(settings: ModelSettings) -> Plan:
    folder = Path(settings.model.removeprefix(FOLDER_PREFIX)).expanduser()
    config, preprocess, weights = read_folder(folder)
    file: Path | None = weights
    if settings.pretrained is not None:
        file = None if settings.pretrained == RANDOM else Path(settings.pretrained)
        if file is not None and not file.is_file():
            raise not_a_source(settings.pretrained, f"{FOLDER_PREFIX}{folder}", [])
    elif weights is None:
        raise DataError(
            f"{folder}: holds no weights",
            expected=f"open_clip_model.safetensors beside {CONFIG_FILE}",
            next_step=f"give a file with --pretrained FILE, or --pretrained {RANDOM} for random weights",
        )
    return Plan(CUSTOM, config, preprocess, file=file, folder=folder)


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
        load_exactly(clip, _fitting(weights, clip), str(weights.path), str(plan))
        backbone = clip.visual
        head = heads.zero_shot_head(clip, tokenizer, classes, settings.templates)
    else:
        backbone = heads.seeded_build(lambda: visual_tower(plan.config), seed)
        if weights is not None:
            load_exactly(backbone, part(weights.state, "visual."), str(weights.path), f"the image tower of {plan}")
        head = heads.random_head(plan.config["embed_dim"], len(classes), seed)
    classifier = Classifier(backbone, head, normalise_features=True).eval()
    return Start(classifier, plan.architecture, preprocessing_of(plan))


def _with_text(plan: Plan, seed: int) -> tuple[Any, Any]:
    """The whole CLIP, randomly initialised, and its tokenizer."""

    def build() -> tuple[Any, Any]:
        return heads.seeded_build(lambda: _whole_clip(plan.config), seed).eval(), _tokenizer(plan)

    text = plan.config["text_cfg"]
    if "hf_model_name" not in text and "hf_tokenizer_name" not in text and "siglip" not in plan.name.lower():
        return build()
    next_step = "give --head random, which needs no text tower"
    return hub.fetched(build, f"the text tower or tokenizer of {plan}", next_step)


def _weights(plan: Plan) -> Weights | None:
    import open_clip

    file = plan.file
    if plan.tag is not None:
        source = open_clip.get_pretrained_cfg(plan.name, plan.tag)
        found = hub.fetched(lambda: open_clip.download_pretrained(source), f"the weights of {plan}")
        file = Path(found)
    if file is None:
        return None
    weights = read_weights(file)
    if any(key.startswith(("visual.", "image_encoder.")) for key in weights.state):
        return weights
    # One of our own checkpoints, or a visual tower by itself.
    tower = part(weights.state, "backbone.") or weights.state
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


def _tower_config(config: dict[str, Any]) -> dict[str, Any]:
    # No base weights of timm's, and one tensor out rather than CoCa's pair.
    return {**config["vision_cfg"], "timm_model_pretrained": False, "output_tokens": False}


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Architecture and preprocessing of the start, with no weights read or fetched."""
    plan = make_plan(settings)
    return plan.architecture, preprocessing_of(plan)


def empty(architecture: Architecture) -> "tuple[nn.Module, int]":
    """A randomly initialised image tower and the number of its features; nothing is fetched.

    Raises:
        DataError: the installed open_clip does not know this architecture, or cannot build it.
    """
    import open_clip

    config = architecture.config if architecture.name == CUSTOM else open_clip.get_model_config(architecture.name)
    if config is None or bool(config.get("quick_gelu", architecture.quick_gelu)) != architecture.quick_gelu:
        raise DataError(f"architecture {architecture.name!r}: the installed open_clip does not know it")
    try:
        return visual_tower({**config, "quick_gelu": architecture.quick_gelu}), config["embed_dim"]
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError, ZeroDivisionError) as error:
        found = " ".join(str(error).split())[:200]
        raise DataError(f"architecture {architecture.name!r}: open_clip cannot build it", found=found) from error


def visual_tower(config: dict[str, Any]) -> "nn.Module":
    """An image tower (N, 3, S, S) → (N, embed_dim) of an open_clip `model_cfg`, randomly initialised, no text tower."""
    # open_clip has no public name for this; its own model classes call it.
    from open_clip.model import _build_vision_tower

    return _build_vision_tower(config["embed_dim"], _tower_config(config), bool(config.get("quick_gelu")))


def _whole_clip(config: dict[str, Any]) -> "nn.Module":
    """The model class that `open_clip.create_model` would choose, without its downloads and global logging."""
    import open_clip

    config = copy.deepcopy(config)
    config["vision_cfg"] = _tower_config(config)
    custom_text = config.pop("custom_text", False)
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"], custom_text = False, True
    if "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    return open_clip.CustomTextCLIP(**config) if custom_text else open_clip.CLIP(**config)


def _tokenizer(plan: Plan) -> Any:
    import open_clip

    return open_clip.get_tokenizer(f"{FOLDER_PREFIX}{plan.folder}" if plan.folder else plan.name)


def preprocessing_of(plan: Plan) -> Preprocessing:
    """How open_clip's own evaluation transform (`image_transform(is_train=False)`) brings images to this model."""
    from open_clip.transform import PreprocessCfg

    given = {key: value for key, value in plan.preprocess.items() if value is not None}
    size = plan.config["vision_cfg"].get("timm_image_size") or plan.config["vision_cfg"].get("image_size", 224)
    sides = set(size) if isinstance(size, list | tuple) else {size}
    resize = given.get("resize_mode", "shortest")
    if len(sides) != 1 or resize not in {"shortest", "squash"}:
        raise UsageError(
            f"--model {plan}: its preprocessing is not supported",
            expected="square images, resized by `shortest` or `squash`",
            found=f"size {size}, resize mode {resize}",
        )
    defaults = PreprocessCfg()
    return Preprocessing(
        size=sides.pop(),
        mean=_triple(given.get("mean", defaults.mean)),
        std=_triple(given.get("std", defaults.std)),
        # As open_clip: anything but bilinear is bicubic.
        interpolation="bilinear" if given.get("interpolation") == "bilinear" else "bicubic",
        resize=resize,
    )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
    return float(red), float(green), float(blue)
