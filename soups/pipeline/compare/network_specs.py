"""Parses the networks of a comparison: what each word of `--models` names, and how the network is fine-tuned."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

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

    def with_epochs(self, epochs: int) -> "NetworkSpec":
        """Return the same network with another number of epochs."""
        training = self.settings.training.model_copy(update={"epochs": epochs})
        return replace(self, settings=self.settings.model_copy(update={"training": training}))


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
    entrants = [_entrant(word, settings, name) for word in settings.models]
    runs: dict[str, str] = {}
    for one in entrants:
        run = one.run_name
        if run in runs or run == f"{name}-{TABLE}":
            raise UsageError(
                f"--models: {one.label!r} would have the run {run}, as {runs.get(run, 'the table')!r} has",
                next_step='tell it apart by a name: "MODEL name=NAME ..."',
            )
        runs[run] = one.label
    return entrants


def _entrant(word: str, settings: CompareSettings, name: str) -> NetworkSpec:
    model, *pairs = word.split() or [""]
    values, arguments, label = {}, [], model
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key or not value:
            expected = '"MODEL NAME=VALUE NAME=VALUE ..."'
            raise UsageError(f"--models {word!r}", expected=expected, found=repr(pair))
        if key == "name":
            label = value
        elif key in _SHARED_SETTINGS:
            raise UsageError(
                f"--models {word!r}: {key} is one for all networks", next_step=f"give {_flag(key)} instead"
            )
        elif key in ModelSettings.model_fields or key in TrainingSettings.model_fields:
            values[key] = value
        else:
            arguments.append(pair)
    own: dict[str, Any] = {"model": model}
    if arguments:
        own["model_args"] = (*(settings.model.model_args or ()), *arguments)
    return NetworkSpec(
        label,
        FinetuneSettings(
            run=RunSettings(name=f"{name}-{_name_part(label)}", runs_folder=settings.run.runs_folder),
            data=settings.data,
            cache=settings.cache,
            model=_with_values(settings.model, own | _part(values, ModelSettings.model_fields), word),
            evaluation=settings.evaluation,
            runtime=settings.runtime,
            launch=settings.launch,
            training=_with_values(settings.training, _part(values, TrainingSettings.model_fields), word),
        ),
    )


def _name_part(label: str) -> str:
    """Return the part of the run's name that stands for the network: no library prefix, allowed characters only."""
    return slug(label.removeprefix("timm:"), default="model")


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _part(values: dict[str, str], known: Collection[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key in known}


def _with_values(settings: Any, values: dict[str, Any], word: str) -> Any:
    """Return settings with some values replaced by text from the command line.

    Raises:
        UsageError: a value does not have the type of its setting.
    """
    kind: type[BaseModel] = type(settings)
    try:
        return kind.model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = f": {first['loc'][-1]}" if first["loc"] else ""
        raise UsageError(f"--models {word!r}{where}", expected=first["msg"], found=repr(first["input"])) from error
