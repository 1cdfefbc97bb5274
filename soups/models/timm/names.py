"""timm's names as users write them, tags, files, folders and its hub: which network, which weights."""

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.core.errors import DataError, UsageError
from soups.models import hub
from soups.models.pretrained import find_weights_file
from soups.models.settings import ModelSettings

logger = logging.getLogger(__name__)

FAMILY = "timm"
PREFIX = "timm:"
HUB = "hf-hub:"
FOLDER = "local-dir:"
Configuration = tuple[dict[str, Any], str, dict[str, Any]]


def is_timm(name: str) -> bool:
    """Return whether a `--model` names a network of timm."""
    return name.startswith((PREFIX, HUB))


@dataclass(frozen=True)
class Plan:
    """Which network, and where its weights come from."""

    name: str
    """timm's name; with a tag, where a tag's weights or preprocessing are meant."""
    published: bool
    """Whether its published weights are wanted."""
    file: Path | None = None
    """The file to read instead."""
    config: dict[str, Any] | None = None
    """timm's `pretrained_cfg`, of a network from the hub or a folder."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """What such a network was built with."""

    @property
    def configuration(self) -> dict[str, Any]:
        """timm's `pretrained_cfg`, wherever it is from."""
        from timm.models import resolve_pretrained_cfg

        return self.config or resolve_pretrained_cfg(self.name).to_dict()


def exact_name(name: str) -> str:
    """timm's name, as it is; of a name that it has replaced, the present one.

    Raises:
        UsageError: timm has no model of this name (before the dot) or no such tag of it (after the dot).
    """
    import timm

    base, _, tag = name.partition(".")
    replaced = timm.models.get_deprecated_models()
    if base in replaced and replaced[base] is None:
        raise UsageError(f"--model {PREFIX}{name}: timm has removed this model", next_step="choose another")
    if base in replaced:
        present = str(replaced[base])
        if tag and "." in present and present.partition(".")[2] != tag:
            raise UsageError(f"--model {PREFIX}{name}: timm calls {base} {present} now", next_step=f"{PREFIX}{present}")
        logger.info("%s: timm calls it %s now", base, present)
        return present if "." in present or not tag else exact_name(f"{present}.{tag}")
    known = timm.list_models()
    if base not in known:
        near = difflib.get_close_matches(base, known, n=5, cutoff=0.5)
        raise UsageError(
            f"--model {PREFIX}{name}: timm has no such model",
            expected=f"one of timm's {len(known)} models, {PREFIX}{HUB}ORG/NAME or {PREFIX}{FOLDER}FOLDER",
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


def make_plan(settings: ModelSettings) -> Plan:
    """Decide the network and the source of its weights, without fetching any.

    Raises:
        UsageError: an unknown model or tag.
        DataError: a folder without timm's `config.json`, or one that makes no sense.
        EnvironmentFailure: the configuration of a model on the hub cannot be fetched.
    """
    name = settings.model.removeprefix(PREFIX)
    for prefix, read in (HUB, _from_hub), (FOLDER, _from_folder):
        if name.startswith(prefix):
            return _configured_plan(settings, name, read(name.removeprefix(prefix)))
    name = exact_name(name)
    base, _, tag = name.partition(".")
    tags = tags_of(base)
    if settings.pretrained is None:
        if not tags:
            logger.warning("%s: timm has no weights for it; it starts from random ones", base)
        return Plan(name if tag or not tags else f"{base}.{tags[0]}", published=bool(tags))
    if settings.pretrained in tags:
        return Plan(f"{base}.{settings.pretrained}", published=True)
    return Plan(name, published=False, file=find_weights_file(settings.pretrained, base, tags))


def _configured_plan(settings: ModelSettings, source: str, found: Configuration) -> Plan:
    """The plan of a network from the hub or a folder, whose configuration names timm's architecture."""
    import timm

    config, name, arguments = found
    if not timm.is_model(name):
        problem = f"--model {settings.model}: the installed timm does not know its architecture"
        raise DataError(problem, expected="one of timm's models", found=name)
    # The network must be the same where only name and arguments are known, as in a card.
    usual = timm.get_pretrained_cfg(name)
    pool, size = config.get("global_pool"), config.get("input_size")
    if pool and pool != getattr(usual, "global_pool", None):
        arguments.setdefault("global_pool", pool)
    if size and config.get("fixed_input_size") and tuple(size) != tuple(usual.input_size if usual else ()):
        arguments.setdefault("img_size", list(size[1:]))
    arguments = {key: value for key, value in arguments.items() if key not in ("num_classes", "in_chans")}
    return Plan(
        name,
        published=settings.pretrained is None,
        file=find_weights_file(settings.pretrained, source, ()),
        config=config,
        arguments=arguments,
    )


def _from_hub(name: str) -> Configuration:
    from timm.models import load_model_config_from_hf

    next_step = f"fetch the repository elsewhere and give its folder: --model {PREFIX}{FOLDER}FOLDER"
    return hub.fetch_from_hub(
        lambda: _read(load_model_config_from_hf, name), f"the configuration of {HUB}{name}", next_step
    )


def _from_folder(name: str) -> Configuration:
    from timm.models._hub import load_model_config_from_path  # timm has no public name for it.

    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        what = "no such folder" if not folder.is_dir() else "holds no config.json"
        raise DataError(f"{folder}: {what}", expected="timm's hub layout: config.json beside model.safetensors")
    return _read(load_model_config_from_path, str(folder))


def _read(load: Callable[[str], Configuration], name: str) -> Configuration:
    """A configuration, checked for what every step after needs."""
    try:
        config, architecture, arguments = load(name)
        if not isinstance(architecture, str) or not isinstance(config, Mapping) or not isinstance(arguments, Mapping):
            raise TypeError("no `architecture`, `pretrained_cfg` or `model_args` of the right kind")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = " ".join(str(error).split())[:200]
        problem = f"{name}: its config.json is not timm's"
        raise DataError(problem, expected="`architecture` and `pretrained_cfg`", found=found) from error
    return dict(config), architecture, dict(arguments)
