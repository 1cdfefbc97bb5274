"""Parses and formats a network's constructor arguments, written `NAME=VALUE` by users. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

ModelArguments = dict[str, Any]
LARGEST_NUMBER = 65_536
"""Limit of an argument's absolute value, far above every real network's: a card may be hostile."""
_EXPECTED = "expected NAME=VALUE, such as patch_size=4 or depths=[2,2,6,2]"


def parse_model_args(texts: Sequence[str]) -> ModelArguments:
    """Returns the arguments of texts such as `patch_size=4 act_layer=gelu depths=[2,2,6,2]`, values read as YAML.

    Raises:
        ValueError: a text is not `NAME=VALUE`, a name is given twice, or a value is neither a number, a word, True or
            False, nor a list of those.
    """
    arguments: ModelArguments = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name.isidentifier():
            raise ValueError(f"{_EXPECTED}, found {text!r}")
        if name in arguments:
            raise ValueError(f"{name} is given twice")
        try:
            arguments[name] = _parse_exponents(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ValueError(f"{text!r}: {' '.join(str(error).split())}") from error
        if problem := find_argument_problem(arguments[name]):
            raise ValueError(f"{text!r}: {problem}")
    return arguments


def format_model_args(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns arguments in the form of the command line, one `NAME=VALUE` each."""

    def format_value(value: Any) -> str:
        return f"[{','.join(map(format_value, value))}]" if isinstance(value, list | tuple) else str(value)

    return tuple(f"{name}={format_value(value)}" for name, value in arguments.items())


def _parse_exponents(value: Any) -> Any:
    """Converts words that are numbers: YAML 1.1 reads `1e-5` as a word."""
    if isinstance(value, list):
        return [_parse_exponents(item) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def find_argument_problem(value: Any) -> str:
    """Returns why a value cannot be an argument, or an empty text if it can."""
    if isinstance(value, list | tuple):
        return next((problem for problem in map(find_argument_problem, value) if problem), "")
    if isinstance(value, bool | str):
        return ""
    if not isinstance(value, int | float):
        return "expected a number, a word, True or False, or a list of those"
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        return f"expected a number up to {LARGEST_NUMBER}"
    return ""
