"""open_clip's names as users write them, tags, files and folders: which network, and where its weights come from."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError
from soups.core.preprocessing import Preprocessing
from soups.models.open_clip.folder import CONFIG_FILE, read_folder
from soups.models.settings import ModelSettings

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
        expected=f"one of open_clip's {len(known)} architectures, timm:NAME, baseline or {FOLDER_PREFIX}FOLDER",
        next_step=(f"did you mean {', '.join(near)}? " if near else "")
        + "`python -c 'import open_clip; print(*open_clip.list_models())'` lists all",
    )


def make_plan(settings: ModelSettings) -> Plan:
    """Decide architecture and source of the weights, without fetching any.

    Raises:
        UsageError: an unknown architecture or tag.
        DataError: a `local-dir:` folder that is missing or incomplete.
    """
    if settings.image_size is not None:
        raise UsageError("--image-size: CLIP's towers have inputs of one size", next_step="leave --image-size out")
    if settings.model_args is not None:
        raise UsageError(
            f"--model-args: {settings.model} is built as open_clip describes it",
            expected="arguments of timm:NAME or baseline",
            next_step=f"leave --model-args out, or describe the tower in a folder: --model {FOLDER_PREFIX}FOLDER",
        )
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
    if Path(pretrained).expanduser().is_file():
        return None, Path(pretrained).expanduser()
    raise unknown_weights_error(pretrained, name, tags)


def unknown_weights_error(pretrained: str, name: str, tags: Sequence[str]) -> UsageError:
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
        file = None if settings.pretrained == RANDOM else Path(settings.pretrained).expanduser()
        if file is not None and not file.is_file():
            raise unknown_weights_error(settings.pretrained, f"{FOLDER_PREFIX}{folder}", [])
    elif weights is None:
        raise DataError(
            f"{folder}: holds no weights",
            expected=f"open_clip_model.safetensors beside {CONFIG_FILE}",
            next_step=f"give a file with --pretrained FILE, or --pretrained {RANDOM} for random weights",
        )
    return Plan(CUSTOM, config, preprocess, file=file, folder=folder)


def describe(settings: ModelSettings) -> tuple[Architecture, Preprocessing]:
    """Architecture and preprocessing of the start, with no weights read or fetched."""
    plan = make_plan(settings)
    return plan.architecture, preprocessing_of(plan)


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
    try:
        return Preprocessing(
            size=sides.pop(),
            mean=_triple(given.get("mean", defaults.mean)),
            std=_triple(given.get("std", defaults.std)),
            # As open_clip: anything but bilinear is bicubic.
            interpolation="bilinear" if given.get("interpolation") == "bilinear" else "bicubic",
            resize=resize,
        )
    except (ValueError, TypeError) as error:
        found = " ".join(str(error).split())[:200]
        raise DataError(f"{plan}: its `preprocess_cfg` makes no sense", found=found) from error


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
    return float(red), float(green), float(blue)
