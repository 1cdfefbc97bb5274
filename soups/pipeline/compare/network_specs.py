"""Parses the networks of a comparison: what each word of `--models` names, and how the network is fine-tuned."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from soups.core.errors import UsageError
from soups.models.settings import ModelSettings
from soups.pipeline.run.run import slug
from soups.pipeline.settings.commands import FinetuneSettings, RunSettings
from soups.pipeline.settings.compare import CompareSettings
from soups.training.settings import TrainingSettings

TABLE = "comparison"
"""Suffix of the folder that holds the table: `<name>-comparison`."""
_SHARED_SETTINGS = {"model", "model_args", "epochs", "lp_epochs", "random_seed", "hparams", "start_from"}
"""Settings that no network can have of its own: its name, or values that all networks share."""


@dataclass(frozen=True)
class NetworkSpec:
    """One network of a comparison."""

    label: str
    """Name of the network in the table."""
    settings: FinetuneSettings

    @property
    def run_name(self) -> str:
        """Name of the run that holds its fine-tunes."""
        return str(self.settings.run.name)


def parse_network_specs(settings: CompareSettings, name: str) -> list[NetworkSpec]:
    """Return the networks that `--models` names, each with the settings of its fine-tunes.

    Args:
        settings: settings of the command.
        name: name of the comparison, the prefix of the runs' names.

    Raises:
        UsageError: no network, two networks of one name, or a word that cannot be parsed.
    """
    if not settings.models:
        raise UsageError(
            "--models is missing",
            expected="the networks to compare, such as --models timm:resnet18 timm:vit_tiny_patch16_224",
        )
    specs: dict[str, NetworkSpec] = {}
    for word in settings.models:
        spec = _parse_network(word, settings, name)
        run = spec.run_name
        if run in specs or run == f"{name}-{TABLE}":
            other = repr(specs[run].label) if run in specs else "'the table'"
            raise UsageError(
                f"--models: {spec.label!r} would have the run {run}, as {other} has",
                next_step='tell it apart by a name: "MODEL name=NAME ..."',
            )
        specs[run] = spec
    return list(specs.values())


def _parse_network(word: str, settings: CompareSettings, name: str) -> NetworkSpec:
    model, *pairs = word.split() or [""]
    label, arguments = model, []
    of_model: dict[str, Any] = {"model": model}
    of_training: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key or not value:
            expected = '"MODEL NAME=VALUE NAME=VALUE ..."'
            raise UsageError(f"--models {word!r}", expected=expected, found=repr(pair))
        if key == "name":
            label = value
        elif key in _SHARED_SETTINGS:
            flag = f"--{key.replace('_', '-')}"
            raise UsageError(f"--models {word!r}: {key} is one for all networks", next_step=f"give {flag} instead")
        elif key in ModelSettings.model_fields:
            of_model[key] = value
        elif key in TrainingSettings.model_fields:
            of_training[key] = value
        else:
            arguments.append(pair)
    if arguments:
        of_model["model_args"] = (*(settings.model.model_args or ()), *arguments)
    # The run's name has no library prefix.
    run_name = f"{name}-{slug(label.removeprefix('timm:'), default='model')}"
    shared = {part: getattr(settings, part) for part in ("data", "cache", "evaluation", "runtime", "launch")}
    own = FinetuneSettings(
        run=RunSettings(name=run_name, runs_folder=settings.run.runs_folder),
        model=_with_values(settings.model, of_model, word),
        training=_with_values(settings.training, of_training, word),
        **shared,
    )
    return NetworkSpec(label, own)


def _with_values(settings: Any, values: dict[str, Any], word: str) -> Any:
    """Return settings with some values replaced by text from the command line.

    Raises:
        UsageError: a value does not have the type of its setting.
    """
    try:
        return type(settings).model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = f": {first['loc'][-1]}" if first["loc"] else ""
        raise UsageError(f"--models {word!r}{where}", expected=first["msg"], found=repr(first["input"])) from error
