"""Resolves `--model` and `--pretrained` for open_clip: configuration of the CLIP, and source of its weights."""

import difflib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError, one_line
from soups.core.preprocessing import Preprocessing
from soups.models.pretrained import RANDOM, find_weights_file
from soups.models.settings import ModelSettings

logger = logging.getLogger(__name__)

OPEN_CLIP = "open_clip"
CUSTOM = "custom"
"""Architecture name of a CLIP from a folder; its configuration is in the card."""
FOLDER_PREFIX = "local-dir:"
QUICK = "-quickgelu"
CLIP_CONFIG = "open_clip_config.json"
# In open_clip's order of preference; other files of the folder are not read.
WEIGHTS_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


@dataclass(frozen=True)
class OpenClipSource:
    """A CLIP of open_clip, and the source of its weights."""

    name: str
    """open_clip's exact name, or `custom`."""
    config: dict[str, Any]
    """open_clip's `model_cfg`, text tower included."""
    preprocess: dict[str, Any]
    """open_clip's `preprocess_cfg`; open_clip's defaults hold for absent keys."""
    tag: str | None = None
    """Tag of the published weights to load."""
    file: Path | None = None
    """Weights file to load; random weights without tag and file."""
    folder: Path | None = None
    """The folder in open_clip's hub layout that the configuration is from."""

    @property
    def architecture(self) -> Architecture:
        """The architecture for the card."""
        config = {key: self.config[key] for key in ("embed_dim", "vision_cfg")} if self.name == CUSTOM else None
        quick_gelu = bool(self.config.get("quick_gelu"))
        return Architecture(family=OPEN_CLIP, name=self.name, quick_gelu=quick_gelu, config=config)

    def __str__(self) -> str:
        shown = f"{FOLDER_PREFIX}{self.folder}" if self.folder else self.name
        return f"{shown}, tag {self.tag}" if self.tag else shown


def exact_name(name: str) -> str:
    """Returns open_clip's name: `ViT-B/32` and `vit-b-32` → `ViT-B-32`, `ViT-L/14@336px` → `ViT-L-14-336`.

    Raises:
        UsageError: open_clip has no such architecture; the message names similar ones.
    """
    import open_clip

    known = open_clip.list_models()
    folded = name.strip().replace("/", "-").replace("@", "-").removesuffix("px").casefold()
    by_folded = {model.casefold(): model for model in known}
    if folded in by_folded:
        return by_folded[folded]
    import timm

    if timm.is_model(name.strip()):
        raise UsageError(
            f"--model {name}: a name of timm, not of open_clip", next_step=f"write --model timm:{name.strip()}"
        )
    near = [by_folded[key] for key in difflib.get_close_matches(folded, by_folded, n=5, cutoff=0.5)]
    raise UsageError(
        f"--model {name}: open_clip has no such architecture",
        expected=f"one of open_clip's {len(known)} architectures, timm:NAME, baseline or {FOLDER_PREFIX}FOLDER",
        next_step=(f"did you mean {', '.join(near)}? " if near else "")
        + "`python -c 'import open_clip; print(*open_clip.list_models())'` lists all",
    )


def resolve_source(settings: ModelSettings) -> OpenClipSource:
    """Returns the CLIP and the source of its weights, without downloading weights.

    Raises:
        UsageError: the architecture or tag is unknown, or an argument is not supported.
        DataError: the `local-dir:` folder is missing or incomplete.
    """
    if settings.image_size is not None:
        raise UsageError("--image-size: CLIP's towers support one input size only", next_step="leave --image-size out")
    if settings.model_args is not None:
        raise UsageError(
            f"--model-args: not supported for {settings.model}, which open_clip configures",
            expected="arguments of timm:NAME or baseline",
            next_step=f"leave --model-args out, or configure the tower in a folder: --model {FOLDER_PREFIX}FOLDER",
        )
    return _resolve_folder(settings) if settings.model.startswith(FOLDER_PREFIX) else _resolve_name(settings)


def _resolve_name(settings: ModelSettings) -> OpenClipSource:
    """Returns a CLIP that open_clip knows by name; by default with OpenAI's weights, else those of the first tag."""
    import open_clip

    name = exact_name(settings.model)
    tags = open_clip.list_pretrained_tags_by_model(name)
    default = "openai" if "openai" in tags else next(iter(tags), None)
    tag, file = default, None
    if settings.pretrained is not None:
        if settings.pretrained != RANDOM and open_clip.get_pretrained_cfg(name, settings.pretrained):
            tag = settings.pretrained.lower().replace("-", "_")
        else:
            tag, file = None, find_weights_file(settings.pretrained, name, tags)
    elif tag is None:
        logger.warning("%s: open_clip has no weights for this architecture; starting from random weights", name)
    elif tag != "openai":
        others = f"; others: {', '.join(tags[1:])}" if tags[1:] else ""
        logger.info("%s: OpenAI published no weights for this architecture; using --pretrained %s%s", name, tag, others)
    # A file or random weights get the preprocessing of the default tag.
    published = open_clip.get_pretrained_cfg(name, tag or default or "")
    if tag and published.get("quick_gelu") and not name.endswith(QUICK):
        name += QUICK
    return OpenClipSource(name, open_clip.get_model_config(name), published, tag=tag, file=file)


def _resolve_folder(settings: ModelSettings) -> OpenClipSource:
    """Returns the CLIP of a folder in open_clip's hub layout, which has its configuration and perhaps its weights."""
    folder = Path(settings.model.removeprefix(FOLDER_PREFIX)).expanduser()
    config, preprocess = _read_config(folder)
    if settings.pretrained is not None:
        file = find_weights_file(settings.pretrained, f"{FOLDER_PREFIX}{folder}", ())
    elif (file := next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)) is None:
        raise DataError(
            f"{folder}: holds no weights",
            expected=f"open_clip_model.safetensors beside {CLIP_CONFIG}",
            next_step=f"give a file with --pretrained FILE, or --pretrained {RANDOM} for random weights",
        )
    return OpenClipSource(CUSTOM, config, preprocess, file=file, folder=folder)


def _read_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the `model_cfg` and the `preprocess_cfg` (empty if absent) of a folder in open_clip's hub layout.

    Raises:
        DataError: the folder or its configuration is missing, or not in open_clip's format.
    """
    path = folder / CLIP_CONFIG
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", expected=f"a folder with {CLIP_CONFIG} and weights")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="open_clip's hub layout") from error
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: not readable JSON", found=one_line(error, 200)) from error
    config = content.get("model_cfg") if isinstance(content, dict) else None
    kinds = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    if not isinstance(config, dict) or any(not isinstance(config.get(key), kind) for key, kind in kinds.items()):
        raise DataError(f"{path}: not open_clip's", expected="`model_cfg` with embed_dim, vision_cfg and text_cfg")
    preprocess = content.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise DataError(f"{path}: `preprocess_cfg` is not an object", found=repr(preprocess)[:60])
    return config, preprocess


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def describe_clip(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Returns the start model's architecture and preprocessing without reading or downloading weights."""
    source = resolve_source(settings)
    return source.architecture, evaluation_preprocessing(source)


def evaluation_preprocessing(source: OpenClipSource) -> Preprocessing:
    """Returns the preprocessing of open_clip's evaluation transform (`image_transform(is_train=False)`).

    Raises:
        UsageError: the preprocessing is not supported.
        DataError: the `preprocess_cfg` is not valid.
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    config = merge_preprocess_dict(PreprocessCfg(), source.preprocess)
    size = source.config["vision_cfg"].get("timm_image_size") or source.config["vision_cfg"].get("image_size", 224)
    sides = set(size) if isinstance(size, list | tuple) else {size}
    resize = config["resize_mode"]
    if len(sides) != 1 or resize not in {"shortest", "squash"}:
        raise UsageError(
            f"--model {source}: its preprocessing is not supported",
            expected="square images, resized by `shortest` or `squash`",
            found=f"size {size}, resize mode {resize}",
        )
    # One value is that of all channels.
    given = {
        key: config[key] if isinstance(config[key], list | tuple) else (config[key],) * 3 for key in ("mean", "std")
    }
    # As in open_clip, every other value means bicubic.
    given["interpolation"] = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    try:
        return Preprocessing.model_validate({"size": sides.pop(), "resize": resize, **given})
    except (ValueError, TypeError) as error:
        found = one_line(error, 200)
        raise DataError(f"{source}: its `preprocess_cfg` is not valid", found=found) from error
