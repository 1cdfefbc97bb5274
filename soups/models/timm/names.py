"""Resolves `--model timm:…` and `hf-hub:…`: timm's name of the network, and the source of its weights."""

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError, one_line
from soups.models import hub
from soups.models.pretrained import find_weights_file
from soups.models.settings import ModelSettings

logger = logging.getLogger(__name__)

TIMM = "timm"
PREFIX = "timm:"
HUB = "hf-hub:"
FOLDER = "local-dir:"
HubConfig = tuple[dict[str, Any], str, dict[str, Any]]
"""timm's `pretrained_cfg`, name of the architecture and constructor arguments, from a `config.json`, without
the numbers of classes and channels, which we set."""


def is_timm(name: str) -> bool:
    """Returns whether a `--model` is a timm network."""
    return name.startswith((PREFIX, HUB))


@dataclass(frozen=True)
class TimmSource:
    """A timm network, and the source of its weights."""

    name: str
    """timm's name; with a tag if the weights or preprocessing of that tag are used."""
    published: bool
    """Whether to load the published weights."""
    file: Path | None = None
    """A weights file to load instead."""
    config: dict[str, Any] | None = None
    """timm's `pretrained_cfg`, for a network from the hub or a folder."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Constructor arguments."""

    @property
    def architecture(self) -> Architecture:
        """The architecture for the card."""
        return Architecture(family=TIMM, name=self.name, arguments=self.arguments)

    @property
    def configuration(self) -> dict[str, Any]:
        """timm's `pretrained_cfg` of the network, from `config` or the name."""
        from timm.models import resolve_pretrained_cfg

        return self.config or resolve_pretrained_cfg(self.name).to_dict()


def classifier_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the module names of the published classifier in a `pretrained_cfg`; a backbone does not have them."""
    names = config.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def exact_name(name: str) -> str:
    """Returns timm's present name of a network; a deprecated name is replaced by the present one.

    Raises:
        UsageError: timm has no model of this name (before the dot), or the model has no such tag (after the dot).
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
    if tag and tag not in list_tags(base):
        raise UsageError(
            f"--model {PREFIX}{name}: {base} has no tag {tag!r}", expected=f"one of {', '.join(list_tags(base))}"
        )
    return name


def list_tags(base: str) -> list[str]:
    """Returns the tags of a timm model's pretrained weights, the default tag first."""
    import timm

    default = getattr(timm.get_pretrained_cfg(base), "tag", None)
    found = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
    return sorted((tag for tag in found if tag), key=lambda tag: (tag != default, tag))


def resolve_source(settings: ModelSettings) -> TimmSource:
    """Returns the network and the source of its weights, without downloading weights.

    Raises:
        UsageError: the model or tag is unknown.
        DataError: the folder has no `config.json` of timm, or one that is not valid.
        EnvironmentFailure: the configuration of a model on the hub cannot be downloaded.
    """
    name = settings.model.removeprefix(PREFIX)
    if name.startswith((HUB, FOLDER)):
        return _resolve_configured(settings, name)
    name = exact_name(name)
    base, _, tag = name.partition(".")
    tags = list_tags(base)
    if settings.pretrained is None:
        if not tags:
            logger.warning("%s: timm has no weights for this network; starting from random weights", base)
        return TimmSource(name if tag or not tags else f"{base}.{tags[0]}", published=bool(tags))
    if settings.pretrained in tags:
        return TimmSource(f"{base}.{settings.pretrained}", published=True)
    return TimmSource(name, published=False, file=find_weights_file(settings.pretrained, base, tags))


def _resolve_configured(settings: ModelSettings, source: str) -> TimmSource:
    """Returns the source of a network from the hub or a folder, whose configuration names timm's architecture."""
    import timm

    config, name, arguments = _read_configuration(source)
    if not timm.is_model(name):
        problem = f"--model {settings.model}: the installed timm does not know its architecture"
        raise DataError(problem, expected="one of timm's models", found=name)
    # A card holds only name and arguments, so these must determine the network.
    default = timm.get_pretrained_cfg(name)
    pool, size = config.get("global_pool"), config.get("input_size")
    if pool and pool != getattr(default, "global_pool", None):
        arguments.setdefault("global_pool", pool)
    if size and config.get("fixed_input_size") and tuple(size) != tuple(default.input_size if default else ()):
        arguments.setdefault("img_size", list(size[1:]))
    file = find_weights_file(settings.pretrained, source, ())
    return TimmSource(name, published=settings.pretrained is None, file=file, config=config, arguments=arguments)


def _read_configuration(source: str) -> HubConfig:
    """Returns the configuration of `hf-hub:NAME` or `local-dir:FOLDER`."""
    from timm.models import load_model_config_from_hf

    name = source.removeprefix(HUB)
    if name != source:
        next_step = f"download the repository on another machine and give its folder: --model {PREFIX}{FOLDER}FOLDER"
        what, problem = f"the configuration of {source}", f"{name}: its config.json is not timm's"
        return hub.fetch_from_hub(lambda: _check_config(load_model_config_from_hf, name, problem), what, next_step)
    folder = Path(source.removeprefix(FOLDER)).expanduser()
    return read_folder_config(folder, f"{folder}: its config.json is not timm's")


def read_folder_config(folder: Path, problem: str) -> HubConfig:
    """Returns the configuration of a folder in timm's hub layout.

    Raises:
        DataError: the folder has no `config.json`, or it is not timm's; the message begins with `problem`.
    """
    from timm.models._hub import load_model_config_from_path  # timm has no public name for this.

    if not (folder / "config.json").is_file():
        what = "no such folder" if not folder.is_dir() else "holds no config.json"
        raise DataError(f"{folder}: {what}", expected="timm's hub layout: config.json beside model.safetensors")
    return _check_config(load_model_config_from_path, str(folder), problem)


def _check_config(load: Callable[[str], HubConfig], name: str, problem: str) -> HubConfig:
    """Returns a configuration with the fields that later steps need."""
    try:
        config, architecture, arguments = load(name)
        if not isinstance(architecture, str) or not isinstance(config, Mapping) or not isinstance(arguments, Mapping):
            raise TypeError("no `architecture`, `pretrained_cfg` or `model_args` of the right kind")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        found = one_line(error, 200)
        raise DataError(problem, expected="`architecture` and `pretrained_cfg`", found=found) from error
    given = {key: value for key, value in arguments.items() if key not in ("num_classes", "in_chans")}  # We set these.
    return dict(config), architecture, given
