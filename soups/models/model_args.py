"""Arguments of a network as users write them, `NAME=VALUE`; torch-free, so that reading settings costs nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

Arguments = dict[str, Any]
LARGEST_NUMBER = 65_536
"""Of an argument, far above every real network's: a card may be hostile."""
_EXPECTED = "expected NAME=VALUE, such as patch_size=4 or depths=[2,2,6,2]"


def parse_model_args(given: Sequence[str]) -> Arguments:
    """The arguments that `patch_size=4 act_layer=gelu depths=[2,2,6,2]` mean; values are read as YAML.

    Raises:
        ValueError: what is no `NAME=VALUE`, a name that comes twice, or a value that is neither a number, a word, True
            or False, nor a list of those.
    """
    arguments: Arguments = {}
    for text in given:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name.isidentifier():
            raise ValueError(f"{_EXPECTED}, found {text!r}")
        if name in arguments:
            raise ValueError(f"{name} is given twice")
        arguments[name] = _value(text, value)
    return arguments


def format_model_args(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Arguments from a settings file's mapping, as they are written on the command line."""

    def written(value: Any) -> str:
        return f"[{','.join(map(written, value))}]" if isinstance(value, list | tuple) else str(value)

    return tuple(f"{name}={written(value)}" for name, value in arguments.items())


def _value(text: str, value: str) -> Any:
    try:
        read = _with_numbers(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r}: {' '.join(str(error).split())}") from error
    if problem := find_problem(read):
        raise ValueError(f"{text!r}: {problem}")
    return read


def _with_numbers(value: Any) -> Any:
    """YAML takes `1e-5` for a word."""
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def find_problem(value: Any) -> str:
    """Why a value can be no argument, or nothing."""
    if isinstance(value, list | tuple):
        return next((problem for problem in map(find_problem, value) if problem), "")
    if isinstance(value, bool | str):
        return ""
    if not isinstance(value, int | float):
        return "expected a number, a word, True or False, or a list of those"
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        return f"expected a number up to {LARGEST_NUMBER}"
    return ""
