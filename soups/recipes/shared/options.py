"""Options of recipes: derived from their signatures, parsed from NAME=VALUE arguments, and listed."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from soups.core.errors import UsageError, unknown_name
from soups.recipes.registry import RECIPES

_CALLER_KEYWORDS = ("on_decision",)
"""Keyword-only parameters that are not options, because the caller sets them."""
_NONE_WORDS = ("none", "null")
_NEXT_STEP = "python main.py --list-recipes lists the options of each recipe"


def recipe_options(recipe: str) -> dict[str, inspect.Parameter]:
    """Return option name → parameter of a recipe, in the order of its signature.

    Raises:
        UsageError: an unknown recipe.
    """
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    parameters = inspect.signature(RECIPES[recipe].function, eval_str=True).parameters.values()
    return {
        each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in _CALLER_KEYWORDS
    }


def all_options(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a recipe as plain JSON: the given values, and the defaults of the rest.

    Raises:
        UsageError: an unknown recipe.
    """
    values = {name: option.default for name, option in recipe_options(recipe).items()} | dict(given)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def canonical_request(recipe: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that a soup's card records, in today's options: greedy's `ties` became a rule of `accept`."""
    if recipe != "greedy" or "ties" not in request:
        return dict(request)
    accept = "ties-by-log-loss" if request["ties"] == "log_loss" else request.get("accept")
    return {**{name: value for name, value in request.items() if name != "ties"}, "accept": accept}


def parse_options(recipes: Sequence[str], words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse `NAME=VALUE` arguments to recipe → options; each goes to every recipe that has an option of this name.

    The annotation of the recipe's parameter sets the type: a number, one of several words, `none`, or a list such as
    `1,0.5,0`. Values are plain JSON. The recipe itself checks ranges.

    Args:
        recipes: requested keys of `RECIPES`.
        words: as given on the command line.

    Raises:
        UsageError: an unknown recipe, an argument that is not NAME=VALUE, an option that no requested recipe has or
            that is given twice, or a value of the wrong type; lists the options of the recipes.
    """
    known = {recipe: recipe_options(recipe) for recipe in recipes}
    found: dict[str, dict[str, Any]] = {recipe: {} for recipe in recipes}
    for word in words:
        name, equals, text = word.partition("=")
        owners = [recipe for recipe, options in known.items() if name in options]
        if not equals or not owners:
            lists = [f"{recipe}: {', '.join(options) or 'no options'}" for recipe, options in known.items()]
            raise UsageError(
                f"--soup-options {word}: {'none of the recipes has this option' if equals else 'no value'}",
                expected="; ".join(lists) or "a recipe",
                next_step=_NEXT_STEP,
            )
        for recipe in owners:
            if name in found[recipe]:
                raise UsageError(f"--soup-options {word}: {name} is given twice", expected="each option once")
            found[recipe][name] = _parse_value(recipe, known[recipe][name], text)
    return found


def _parse_value(recipe: str, option: inspect.Parameter, text: str) -> Any:
    """Return the value of an option from its text."""
    adapter = TypeAdapter(option.annotation)
    readings: list[Any] = [None] * (text.lower() in _NONE_WORDS) + [text, [part for part in text.split(",") if part]]
    for reading in readings:
        try:
            return adapter.validate_python(reading)
        except ValidationError:
            continue
    raise UsageError(
        f"--soup-options {option.name}={text}: not a value that {recipe} takes",
        expected=_format_option(option),
        next_step=_NEXT_STEP,
    )


def list_recipes() -> str:
    """Return a text that lists every recipe with one line of description, and its options with defaults and types."""
    width = max(map(len, RECIPES)) + 2
    lines = []
    for name, recipe in RECIPES.items():
        first = (inspect.getdoc(inspect.getmodule(recipe.function)) or "").partition("\n\n")[0]
        lines.append(f"{name:{width}}{' '.join(first.split())}")
        lines += [f"{'':{width}}  {_format_option(option)}" for option in recipe_options(name).values()]
    return "\n".join(lines)


def _format_option(option: inspect.Parameter) -> str:
    """Format an option: `density=0.2 (float)`."""
    default = option.default
    if isinstance(default, list | tuple):
        default = ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in default)
    return f"{option.name}={'none' if default is None else default} ({_format_type(option.annotation)})"


def _format_type(annotation: Any) -> str:
    """Format an annotation for users: `float or none`, `linear or ties`, `float,float,…`."""
    text = inspect.formatannotation(annotation)
    text = re.sub(r"(?:\w+\.)+(\w+)", r"\1", text)
    text = re.sub(r"(?:Sequence|list|tuple)\[(\w+)(?:, \.\.\.)?\]", r"\1,\1,…", text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda match: match[1].replace("'", "").replace(", ", " or "), text)
    return text.replace(" | ", " or ").replace("None", "none").replace("bool", "true or false")
