"""What recipes can be told: options found in their signatures, read from NAME=VALUE words, and listed."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from soups.core.errors import UsageError, unknown_name
from soups.recipes.registry import RECIPES

_OWN = ("on_decision",)
"""Keywords that are no options: they are the caller's."""
_NONE = ("none", "null")


def recipe_options(recipe: str) -> dict[str, inspect.Parameter]:
    """Name → parameter of what a recipe can be told, in the order of its signature.

    Raises:
        UsageError: there is no such recipe.
    """
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    parameters = inspect.signature(RECIPES[recipe].function, eval_str=True).parameters.values()
    return {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in _OWN}


def all_options(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe is told in all, as plain JSON: what was given, and its own defaults for the rest.

    Raises:
        UsageError: there is no such recipe.
    """
    values = {name: option.default for name, option in recipe_options(recipe).items()} | dict(given)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def parse_options(recipes: Sequence[str], words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Recipe → its options, from words `NAME=VALUE`; each goes to every recipe that has an option of this name.

    Values are what the recipe's signature says: numbers, words of a list of literals, `none`, and for several values
    `1,0.5,0`. They are plain JSON. Ranges are the recipe's own affair.

    Args:
        recipes: keys of `RECIPES` that were asked for.
        words: as given on the command line.

    Raises:
        UsageError: an unknown recipe, a word that is no NAME=VALUE, an option that none of the recipes has or that is
            there twice, or a value of the wrong kind; lists the options of the recipes.
    """
    known = {recipe: recipe_options(recipe) for recipe in recipes}
    found: dict[str, dict[str, Any]] = {recipe: {} for recipe in recipes}
    for word in words:
        name, equals, text = word.partition("=")
        owners = [recipe for recipe, options in known.items() if name in options]
        if not equals or not owners:
            raise UsageError(
                f"--soup-options {word}" + (": none of the recipes has this option" if equals else ": no value"),
                expected="; ".join(f"{recipe}: {_listed(options)}" for recipe, options in known.items()) or "a recipe",
                next_step="python main.py --list-recipes tells what each can be told",
            )
        for recipe in owners:
            if name in found[recipe]:
                raise UsageError(f"--soup-options {word}: {name} is given twice", expected="each option once")
            found[recipe][name] = _value(recipe, known[recipe][name], text)
    return found


def _value(recipe: str, option: inspect.Parameter, text: str) -> Any:
    """The value that a text means for an option."""
    adapter = TypeAdapter(option.annotation)
    readings: list[Any] = [None] * (text.lower() in _NONE) + [text, [part for part in text.split(",") if part]]
    for reading in readings:
        try:
            return adapter.validate_python(reading)
        except ValidationError:
            continue
    raise UsageError(
        f"--soup-options {option.name}={text}: not a value that {recipe} takes",
        expected=_described(option),
        next_step="python main.py --list-recipes tells what each can be told",
    )


def list_recipes() -> str:
    """Every recipe with what it does in one line, and its options with their defaults and kinds: a text."""
    width = max(map(len, RECIPES)) + 2
    lines = []
    for name, recipe in RECIPES.items():
        module = inspect.getmodule(recipe.function)
        first = inspect.cleandoc((module and module.__doc__) or "").partition("\n\n")[0]
        lines.append(f"{name:{width}}{' '.join(first.split())}")
        lines += [f"{'':{width}}  {_described(option)}" for option in recipe_options(name).values()]
    return "\n".join(lines)


def _listed(options: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(options) or "no options"


def _described(option: inspect.Parameter) -> str:
    """`density=0.2 (float)`."""
    default = option.default
    if isinstance(default, list | tuple):
        default = ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in default)
    return f"{option.name}={'none' if default is None else default} ({_kind(option.annotation)})"


def _kind(annotation: Any) -> str:
    """An annotation in words that a user can follow: `float or none`, `linear or ties`, `float,float,…`."""
    text = inspect.formatannotation(annotation)
    text = re.sub(r"(?:\w+\.)+(\w+)", r"\1", text)
    text = re.sub(r"(?:Sequence|list|tuple)\[(\w+)(?:, \.\.\.)?\]", r"\1,\1,…", text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda match: match[1].replace("'", "").replace(", ", " or "), text)
    return text.replace(" | ", " or ").replace("None", "none").replace("bool", "true or false")
