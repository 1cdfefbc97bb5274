"""Mistakes on the command line, in words: which flag, what was expected, what was found, and the next step."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from soups.core.errors import UsageError, did_you_mean

_FLAGS_OF_OTHER_TOOLS = {
    "learning-rate": "lr",
    "lr0": "lr",
    "weight-decay": "wd",
    "num-epochs": "epochs",
    "num-train-epochs": "epochs",
    "bs": "batch-size",
    "batch": "batch-size",
    "seed": "random-seed",
    "data": "data-location",
    "data-dir": "data-location",
    "data-path": "data-location",
    "train-dir": "data-location",
    "test-dir": "test-location",
    "arch": "model",
    "opt": "optimizer",
    "sched": "scheduler",
    "label-smoothing": "smoothing",
    "grad-clip": "clip",
    "num-workers": "workers",
    "gpus": "device",
    "output-dir": "runs-folder",
    "save-dir": "runs-folder",
    "mixup": "mix",
    "loss": "loss-fn",
}
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "True or False",
    "bool_type": "True or False",
    "string_type": "text",
    "tuple_type": "a list of values",
    "missing": "a value",
    "finite_number": "a finite number",
}
"""Type of an error of pydantic → what would be right."""


def _expected_text(errors: Sequence[Any]) -> str:
    """Return what would be right, from pydantic's errors about one value: several if it may be of several kinds."""
    texts = list(dict.fromkeys(_expected_of(error) for error in errors))
    return " or ".join(texts)


def _expected_of(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    words = {"gt": "a number greater than", "ge": "at least", "lt": "a number less than", "le": "at most"}
    if kind in bounds:
        return f"{words[bounds[kind]]} {context[bounds[kind]]:g}"
    if kind == "literal_error":
        return re.sub(r"'([^']*)'", r"\1", context["expected"])
    if kind == "string_pattern_mismatch":
        if alternatives := re.fullmatch(r"\^\(([\w|-]+)\)\$", context["pattern"]):
            return alternatives[1].replace("|", ", ")
        return "letters, digits, '.', '_' and '-', a letter or digit first"
    return _EXPECTED.get(kind) or error["msg"].removeprefix("Value error, ")


def find_mistake(
    fields: Mapping[str, FieldInfo],
    arguments: Sequence[str],
    validate: Callable[[dict[str, Any]], object],
) -> UsageError:
    """Return the first mistake of a command line that could not be parsed.

    Args:
        fields: setting → its definition, of groups too.
        arguments: the command line without `--config`.
        validate: raises pydantic's error for settings that contradict each other.
    """
    aliases = {
        alias: name
        for name, field in fields.items()
        for each in field.metadata
        for alias in (getattr(each, "aliases", None) or ())
    }
    values: dict[str, Any] = {}
    for flag, words in _split(arguments):
        name = aliases.get(flag, flag.removeprefix("--").replace("-", "_"))
        if name not in fields:
            return _unknown_flag(flag, fields, aliases)
        kinds = _kinds(fields[name].annotation)
        is_list = any(get_origin(kind) is tuple for kind in kinds)
        if not words and bool not in kinds and not is_list:
            return UsageError(f"{flag}: no value", expected=f"{flag} and a value", next_step="--help describes it")
        if len(words) > 1 and not is_list:
            return UsageError(f"{flag}: several values", expected="one", found=" ".join(words))
        values[name] = tuple(words) if is_list else words[0] if words else True
        try:
            kind: Any = Annotated[fields[name].annotation, fields[name]]
            TypeAdapter(kind).validate_python(values[name])
        except ValidationError as error:
            return value_error(flag, error.errors(), " ".join(words))
    try:
        validate(values)
    except ValidationError as error:  # Settings that contradict each other; the message names them.
        return UsageError(error.errors()[0]["msg"].removeprefix("Value error, "))
    return UsageError(f"the command line is not understood: {' '.join(arguments)}", next_step="--help lists all flags")


def value_error(place: str, errors: Sequence[Any], found: str) -> UsageError:
    """Return the message about a value of the wrong kind.

    Args:
        place: the flag, or the line of a file and the setting.
        errors: pydantic's errors about the value.
        found: the value as it was given.
    """
    choices = [
        choice for error in errors for choice in re.findall("'([^']*)'", error.get("ctx", {}).get("expected", ""))
    ]
    return UsageError(place, expected=_expected_text(errors), found=found, next_step=did_you_mean(found, choices))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union; any other type by itself."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    is_union = get_origin(annotation) in (Union, UnionType)
    return tuple(kind for each in get_args(annotation) for kind in _kinds(each)) if is_union else (annotation,)


def _split(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return each flag with its values: of `--a=1` and of `--a 1 2`; words before the first flag are left out."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if re.match(r"--?[A-Za-z]", argument):
            flag, sign, value = argument.partition("=")
            found.append((flag, [value] if sign else []))
        elif found:
            found[-1][1].append(argument)
    return found


def _unknown_flag(flag: str, fields: Mapping[str, FieldInfo], aliases: Mapping[str, str]) -> UsageError:
    known = [f"--{name.replace('_', '-')}" for name in fields]
    same = _FLAGS_OF_OTHER_TOOLS.get(flag.lstrip("-").replace("_", "-"))
    if same is not None and f"--{same}" in known:
        next_step = f"the flag is called --{same}; --help lists all flags"
    else:
        hint = did_you_mean(flag, [*known, *aliases])
        next_step = f"{hint} --help lists all flags" if hint else "--help lists all flags"
    return UsageError(f"unknown flag {flag}", next_step=next_step)
