"""The networks that are compared: what each word names, and how each of them is fine-tuned."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from soups.core.errors import UsageError
from soups.models.settings import ModelSettings
from soups.pipeline.settings.commands import FinetuneSettings, RunSettings
from soups.pipeline.settings.compare import CompareSettings
from soups.training.settings import TrainingSettings

TABLE = "comparison"
"""The folder of the table is called as a run would be: `<name>-comparison`."""
_OF_ALL = {"model", "model_args", "epochs", "lp_epochs", "random_seed", "hparams", "start_from"}
"""Settings that no network has for itself: its name, or what is one for all."""


@dataclass(frozen=True)
class NetworkSpec:
    """One network of a comparison."""

    label: str
    """Its name in the table."""
    settings: FinetuneSettings

    @property
    def run_name(self) -> str:
        """Of the run that its fine-tunes are in."""
        return str(self.settings.run.name)

    def with_epochs(self, epochs: int) -> "NetworkSpec":
        """The same with another number of epochs."""
        training = self.settings.training.model_copy(update={"epochs": epochs})
        return replace(self, settings=self.settings.model_copy(update={"training": training}))


def parse_network_specs(settings: CompareSettings, name: str) -> list[NetworkSpec]:
    """The networks that `--models` names, each with the settings of its fine-tunes.

    Args:
        settings: of the command.
        name: of the comparison, which the runs' names begin with.

    Raises:
        UsageError: no network, two of one name, or a word that means nothing.
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
        elif key in _OF_ALL:
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
            run=RunSettings(name=f"{name}-{_run_part(label)}", runs_folder=settings.run.runs_folder),
            data=settings.data,
            cache=settings.cache,
            model=_with(settings.model, own | _part(values, ModelSettings.model_fields), word),
            evaluation=settings.evaluation,
            runtime=settings.runtime,
            launch=settings.launch,
            training=_with(settings.training, _part(values, TrainingSettings.model_fields), word),
        ),
    )


def _run_part(label: str) -> str:
    """A network's part of its run's name: without the library that it is of, and without signs that no run has."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label.removeprefix("timm:")).strip("-._") or "model"


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _part(values: dict[str, str], known: Collection[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key in known}


def _with(settings: Any, values: dict[str, Any], word: str) -> Any:
    """Settings with some values as they were written.

    Raises:
        UsageError: a value is not of its setting's kind.
    """
    kind: type[BaseModel] = type(settings)
    try:
        return kind.model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = f": {first['loc'][-1]}" if first["loc"] else ""
        raise UsageError(f"--models {word!r}{where}", expected=first["msg"], found=repr(first["input"])) from error
