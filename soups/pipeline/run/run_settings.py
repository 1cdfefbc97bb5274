"""The settings that a run records in `settings.yaml` and that every later command uses."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, RecordedOtherwise, UsageError, as_typed
from soups.core.labels import Factor, LabelSpace
from soups.core.preprocessing import Preprocessing
from soups.data.layouts.image_files import existing_folder
from soups.data.layouts.locate import resolve_locations
from soups.data.settings import DataSettings
from soups.files.atomic import write_text
from soups.files.yaml_text import dump_yaml
from soups.models.settings import ModelSettings
from soups.pipeline.settings.commands import CommandSettings
from soups.runtime.devices import Precision

FILE = "settings.yaml"
MODELS_HEADING = (
    "\n# Settings of each fine-tune. Train one again: --name NEW --config THIS_FILE#MODEL; all: without #MODEL.\n"
)
"""Line between the settings of the run, which every command reads, and those of its models."""
_VERSIONED = ("soups", "torch", "torchvision", "open_clip_torch", "timm", "albumentations", "numpy", "pillow")


class ForeignPool(BaseModel):
    """A pool of checkpoints made by other tools, and the facts that they do not contain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    foreign_location: str
    """Folder of the checkpoints; nothing is written into it."""
    ema: bool = False
    """Use the averaged weights (EMA) of training checkpoints."""
    architecture: Architecture
    preprocessing: Preprocessing


class RecordedSettings(BaseModel):
    """Settings that belong to the run as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataSettings
    model: ModelSettings
    metric: str
    precision: Precision
    threads: int
    factors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name and levels of each factor of the data's labels, trained on or not; empty for plain labels."""
    index_prefix: Literal["", "_i"] = Field(default="", exclude_if=lambda prefix: not prefix)
    """Text between the run's name and a model's index; `_i` where the name of a new run ends in a digit."""
    foreign: ForeignPool | None = None
    """The pool of a run without training; its classes are the data's `class_order`."""

    @property
    def joint_space(self) -> LabelSpace | None:
        """All classes of labels with factors; None for plain labels."""
        if not self.factors:
            return None
        return LabelSpace.product(Factor(name, levels) for name, levels in self.factors)

    def flat(self) -> dict[str, Any]:
        """Returns the settings with flat keys, named as the flags."""
        rest = self.model_dump(mode="json", exclude={"data", "model", "foreign"})
        foreign = self.foreign.model_dump(mode="json") if self.foreign else {}
        return {**self.data.model_dump(mode="json"), **self.model.model_dump(mode="json"), **rest, **foreign}

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> "RecordedSettings":
        """Returns the settings of flat keys; the inverse of `flat`."""
        data = {key: values[key] for key in DataSettings.model_fields if key in values}
        model = {key: values[key] for key in ModelSettings.model_fields if key in values}
        foreign = {key: values[key] for key in ForeignPool.model_fields if key in values} or None
        rest = {key: values[key] for key in cls.model_fields if key in values}
        return cls.model_validate({**rest, "data": data, "model": model, "foreign": foreign})


def record_run(folder: Path, recorded: RecordedSettings) -> None:
    """Write the run's settings and the versions of the libraries that it began with; those of its models stay."""
    head, heading, models = "", "", ""
    if (folder / FILE).exists():
        head, heading, models = (folder / FILE).read_text(encoding="utf-8").partition(MODELS_HEADING)
    versions = (yaml.safe_load(head) or {}).get("versions", {})
    for name in _VERSIONED if not versions else ():
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    write_text(folder / FILE, dump_yaml({**recorded.flat(), "versions": versions}) + heading + models)


def read_recorded(folder: Path) -> RecordedSettings | None:
    """Returns the recorded settings of a run; None if there is no run.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return RecordedSettings.from_flat(yaml.safe_load(path.read_text(encoding="utf-8").partition(MODELS_HEADING)[0]))
    except (yaml.YAMLError, ValidationError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged", found=reason, next_step="restore it, or choose another --name") from error


def check_recorded(
    recorded: RecordedSettings, run_name: str, settings: CommandSettings, given: Collection[str]
) -> None:
    """Raise an error if a setting that the user gave differs from the recorded one.

    Raises:
        UsageError: the message names the first difference.
        DataError: the data location that the user gave is another one and does not exist.
    """
    values = recorded.flat()
    named = {key: getattr(settings.data, key) for key in DataSettings.model_fields if key in given}
    data = settings.data
    if named.keys() & {"data_location", "layout", "age_bands"}:  # Several folders can name one data set.
        data = resolve_locations(recorded.data.model_copy(update=named))
    requested = {**data.model_dump(mode="json"), **settings.model.model_dump(mode="json")}
    requested |= {"threads": settings.runtime.threads}
    requested |= {"precision": settings.runtime.precision} if settings.runtime.precision != "auto" else {}
    for key in sorted(set(given) & set(requested)):
        if _resolve_paths(requested[key]) != _resolve_paths(values[key]):
            for location in settings.data.locations if key == "data_location" else ():
                existing_folder(location, "--data-location", "the folder of the images")
            raise recorded_otherwise(run_name, key, values[key], requested[key])


def recorded_otherwise(run_name: str, key: str, recorded: Any, requested: Any) -> UsageError:
    """Returns the error for a setting that differs from the recorded one."""
    return RecordedOtherwise(
        f"--{key.replace('_', '-')}: run {run_name!r} was made with another value",
        expected=as_typed(recorded),
        found=as_typed(requested),
        next_step="leave it out, or start a new run with another --name",
    )


def _resolve_paths(value: Any) -> Any:
    """Returns a setting with texts as absolute paths, so that two names of one file are equal."""
    if isinstance(value, list):
        return list(map(_resolve_paths, value))
    return Path(value).resolve() if isinstance(value, str) else value
