"""Search spaces: hyperparameters with ranges or choices, built in or read from a YAML file."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from soups.core.errors import UsageError, did_you_mean
from soups.files.yaml_text import parse_with_lines, to_plain_value
from soups.training.settings import RandomRanges, TrainingSettings

START_MODEL, MAGNITUDE, OPERATIONS = "start_model", "magnitude", "operations"
EXTRA_HYPERPARAMETERS = (START_MODEL, MAGNITUDE, OPERATIONS)
"""Hyperparameters that are not training settings: the `model_<k>` of --start-from at which a trial begins, and the two
numbers of its RandAugment."""
_NOT_SEARCHED = {"hparams", "start_from", "validate_every"}
SEARCHED = (*(name for name in TrainingSettings.model_fields if name not in _NOT_SEARCHED), *EXTRA_HYPERPARAMETERS)
_LIST_SETTINGS = ("class_weights", "oversample")
_YAML_SUFFIXES = (".yaml", ".yml")
_ENTRY_FORMS = "{low: 1e-6, high: 1e-3, log: true}, {low: 10, high: 25, step: 5} or {choices: [a, b]}"


class Hyperparameter(BaseModel):
    """Distribution of one hyperparameter: a range of numbers, both ends included, or a list of choices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    """Uniform in the logarithm."""
    step: int | float | None = None
    """Distance between neighbouring numbers; integers have distance 1 by default."""
    choices: tuple[bool | int | float | str | tuple[str, ...] | None, ...] | None = None
    otherwise: int | float | None = None
    """Value that half of the trials have instead of one from the range."""

    def labels(self) -> tuple[str, ...]:
        """Returns the choices as text, which any storage can hold."""
        return tuple(each if isinstance(each, str) else json.dumps(each) for each in self.choices or ())

    def as_entry(self) -> dict[str, Any]:
        """Returns the entry as a space file would contain it."""
        return self.model_dump(mode="json", exclude_defaults=True)


Space = dict[str, Hyperparameter]
"""Name (one of `SEARCHED`) → distribution."""


def basic_space(ranges: RandomRanges) -> Space:
    """Returns the search space of the competition code that this toolkit replaces, without its seeds.

    The best of several seeds is chosen by chance: its validation score says nothing about other images.
    """
    return {
        "epochs": Hyperparameter(low=10, high=25),
        "batch_size": Hyperparameter(low=16, high=512),
        "lr": Hyperparameter(low=1e-6, high=1e-3, log=True),
        START_MODEL: Hyperparameter(low=0, high=10),
    }


def original_space(ranges: RandomRanges) -> Space:
    """Returns the search space of the competition code, seeds included."""
    basic = basic_space(ranges)
    start = basic.pop(START_MODEL)
    return {**basic, "random_seed": Hyperparameter(low=34, high=48, step=2), START_MODEL: start}


def paper_space(ranges: RandomRanges) -> Space:
    """Returns the space of Wortsman et al. 2022 (arXiv:2203.05482, appendix J.2.1), as in --hparams random."""
    return {
        "lr": Hyperparameter(low=ranges.lr_range[0], high=ranges.lr_range[1], log=True),
        "wd": Hyperparameter(low=ranges.wd_range[0], high=ranges.wd_range[1], log=True),
        "epochs": Hyperparameter(low=ranges.epochs_range[0], high=ranges.epochs_range[1]),
        MAGNITUDE: Hyperparameter(low=ranges.magnitude_range[0], high=ranges.magnitude_range[1]),
        OPERATIONS: Hyperparameter(low=ranges.operations_range[0], high=ranges.operations_range[1]),
        "mix": Hyperparameter(low=ranges.mix_range[0], high=ranges.mix_range[1], otherwise=0.0),
        "smoothing": Hyperparameter(low=ranges.smoothing_range[0], high=ranges.smoothing_range[1], otherwise=0.0),
    }


SPACES: dict[str, Callable[[RandomRanges], Space]] = {
    "basic": basic_space,
    "original": original_space,
    "paper": paper_space,
}


def read_space(space_name: str, ranges: RandomRanges, given: Collection[str]) -> Space:
    """Returns the search space of `--space`: a built-in one or one from a file.

    Args:
        space_name: a key of `SPACES`, or a YAML file.
        ranges: ranges of the paper's space.
        given: names of the settings that the user gave. They are fixed: a built-in space leaves them out, a file
            must not contain them.

    Raises:
        UsageError: no such space or file, an invalid entry, or a searched hyperparameter that a flag fixes.
    """
    fixed = set(given) | ({MAGNITUDE, OPERATIONS} if "aug" in given else set())
    fixed |= set() if "start_from" in given else {START_MODEL}
    if space_name not in SPACES:
        return _read_space_file(Path(space_name), set(given))
    searched = {name: entry for name, entry in SPACES[space_name](ranges).items() if name not in fixed}
    if not searched:
        raise UsageError(
            f"--space {space_name}: flags fix all of its hyperparameters", next_step="leave one of them out"
        )
    return searched


def _read_space_file(path: Path, given: set[str]) -> Space:
    if path.suffix not in _YAML_SUFFIXES and not path.exists():
        hint = did_you_mean(str(path), SPACES)
        raise UsageError(
            f"--space {path}: no such space", expected=f"{', '.join(SPACES)} or a YAML file", next_step=hint
        )
    document = parse_with_lines(path, f"--space {', '.join(SPACES)} or a YAML file")
    space: Space = {}
    for key, node in document.value if document is not None else ():
        name, where = str(key.value).replace("-", "_"), f"{path}, line {key.start_mark.line + 1}"
        _check_name(where, name, space, given)
        space[name] = _parse_entry(where, name, node)
    if not space:
        raise UsageError(f"{path}: no hyperparameters", expected=f"lines such as lr: {_ENTRY_FORMS}")
    if (MAGNITUDE in space) != (OPERATIONS in space) or ("aug" in space and MAGNITUDE in space):
        raise UsageError(f"{path}: RandAugment", expected=f"{MAGNITUDE} and {OPERATIONS} together, or aug by choices")
    return space


def _check_name(where: str, name: str, space: Space, given: set[str]) -> None:
    if name in _NOT_SEARCHED:
        hint = f"search {START_MODEL}: the model_<k> of --start-from DIR" if name == "start_from" else ""
        raise UsageError(f"{where}: {name} cannot be searched", next_step=hint or "leave it out")
    if name not in SEARCHED:
        hint = did_you_mean(name, SEARCHED, otherwise=f"use one of {', '.join(SEARCHED)}")
        raise UsageError(f"{where}: unknown hyperparameter {name!r}", next_step=hint)
    if name in space:
        raise UsageError(f"{where}: {name} is given twice", next_step="remove one of the two lines")
    if name in given or (name in (MAGNITUDE, OPERATIONS) and "aug" in given):
        flag = f"--{'aug' if name in (MAGNITUDE, OPERATIONS) else name.replace('_', '-')}"
        raise UsageError(f"{where}: {name} is searched, but {flag} fixes it", next_step="use one of the two")
    if name == START_MODEL and "start_from" not in given:
        raise UsageError(f"{where}: {START_MODEL} without a folder of starts", next_step="add --start-from DIR")


def _parse_entry(where: str, name: str, node: yaml.Node) -> Hyperparameter:
    """Returns the distribution in one line of a space file.

    Raises:
        UsageError: it is neither a range nor choices, or a value is not valid for the hyperparameter.
    """
    content = to_plain_value(node)
    if not isinstance(content, dict):
        raise UsageError(f"{where}: {name}", expected=_ENTRY_FORMS, found=repr(content))
    for key in content:
        if key not in Hyperparameter.model_fields:
            hint = did_you_mean(key, Hyperparameter.model_fields)
            raise UsageError(f"{where}: {name}: unknown key {key!r}", expected=_ENTRY_FORMS, next_step=hint)
    if {"low", "high"} <= content.keys() and "choices" not in content:
        return _parse_range(where, name, content)
    if content.keys() != {"choices"}:
        raise UsageError(f"{where}: {name}", expected=_ENTRY_FORMS, found=", ".join(content) or "nothing")
    listed = content["choices"]
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{where}: {name}: choices", expected="a list such as [adamw, lamb]", found=repr(listed))
    choices = tuple(_parse_value(where, name, each) for each in listed)
    if len(set(choices)) != len(choices):
        raise UsageError(f"{where}: {name}: choices", expected="each once", found=repr(listed))
    return Hyperparameter(choices=choices)


def _parse_range(where: str, name: str, content: Mapping[str, Any]) -> Hyperparameter:
    low, high, otherwise = (
        _parse_value(where, name, content[key]) if key in content else None for key in ("low", "high", "otherwise")
    )
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise UsageError(f"{where}: {name}: low and high are for numbers", expected="{choices: [a, b]}")
    assert high is not None
    log = _parse_as(f"{where}: {name}: log", bool, content.get("log", "false"))
    step = _parse_as(f"{where}: {name}: step", type(low), content["step"]) if "step" in content else None
    count = (high - low) / step if step else 0.0
    is_even = step is None or (step > 0 and abs(count - round(count)) <= 1e-9)
    violations = {
        "low not above high": low > high,
        "log or step, not both": log and step is not None,
        "low above zero with log": log and low <= 0,
        "a whole number of steps from low to high": not is_even,
    }
    entry = Hyperparameter(low=low, high=high, log=log, step=step, otherwise=otherwise)
    for requirement, is_violated in violations.items():
        if is_violated:
            raise UsageError(f"{where}: {name}", expected=requirement, found=json.dumps(entry.as_entry()))
    return entry


def _parse_value(where: str, name: str, value: Any) -> Any:
    """Returns a value of a hyperparameter, parsed from a file's content."""
    if name in EXTRA_HYPERPARAMETERS:
        number = _parse_as(f"{where}: {name}", int, value)
        if number < 0:
            raise UsageError(f"{where}: {name}", expected="at least 0", found=str(number))
        return number
    if isinstance(value, str) and name in _LIST_SETTINGS:
        value = [value]  # As for the flag, a single value needs no brackets.
    try:
        return getattr(TrainingSettings.model_validate({name: value}), name)
    except ValidationError as error:
        raise UsageError(f"{where}: {name}", expected=error.errors()[0]["msg"], found=repr(value)) from error


def _parse_as(where: str, kind: type, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise UsageError(where, expected=error.errors()[0]["msg"], found=repr(value)) from error


def apply_trial(space: Space, drawn: Mapping[str, Any], base: TrainingSettings) -> TrainingSettings:
    """Returns the settings of a trial: the base's with the drawn values.

    Args:
        space: the space of the draw.
        drawn: name → number, or label of a choice; and `<name>_used` where half of the trials go without.
        base: settings that are not searched; its `start_from` is the folder of the starts for `start_model`.

    Raises:
        UsageError: the settings contradict each other.
    """
    values: dict[str, Any] = {}
    for name, entry in space.items():
        value = drawn[name]
        if entry.choices is not None:
            value = entry.choices[entry.labels().index(value)]
        values[name] = value if drawn.get(used_name(name), True) else entry.otherwise
    if MAGNITUDE in values:
        magnitude, operations = values.pop(MAGNITUDE), values.pop(OPERATIONS)
        values["aug"] = f"rand-m{magnitude}-n{operations}" if operations else None
    if START_MODEL in values:
        assert base.start_from is not None
        values["start_from"] = str(start_file(Path(base.start_from), values.pop(START_MODEL)))
    try:
        return TrainingSettings.model_validate({**base.model_dump(), **values})
    except ValidationError as error:
        found = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, "), found=found) from error


def used_name(name: str) -> str:
    """Returns the name of the draw that decides whether a trial uses a hyperparameter with `otherwise`."""
    return f"{name}_used"


def start_file(folder: Path, number: int) -> Path:
    """Returns the file of start `model_<number>` in a folder.

    Raises:
        UsageError: there is no such file.
    """
    candidates = [folder / f"model_{number}{ending}" for ending in (".safetensors", ".pt")]
    if found := [candidate for candidate in candidates if candidate.is_file()]:
        return found[0]
    raise UsageError(
        f"--start-from {folder}: no start {number}",
        expected=" or ".join(candidate.name for candidate in candidates),
        next_step="download the public ones: python main.py --download-models --model-location DIR",
    )
