"""Checks before any work: whether models can be averaged, and which of them differ from most others."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from soups.core.errors import DataError
from soups.weights.safetensors_header import Layout, LayoutDifference, find_difference

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that data-parallel training and `torch.compile` add to the names of all tensors."""

Value = TypeVar("Value")


def strip_prefix(state: Mapping[str, Value], wrappers: Sequence[str] = WRAPPERS) -> tuple[dict[str, Value], str]:
    """Remove the prefixes that wrappers gave to all names of a state (or layout), nested in any order.

    Returns:
        The state with shorter names, in the same order, and the removed prefix: empty unless all names have one.
    """
    prefix = ""
    while state:
        wrapper = next((each for each in wrappers if all(key.startswith(prefix + each) for key in state)), None)
        if wrapper is None:
            break
        prefix += wrapper
    return {key.removeprefix(prefix): value for key, value in state.items()}, prefix


def find_outliers(values: Mapping[str, Hashable]) -> tuple[str, list[str]]:
    """Return the first model with the most common value (the earliest in a tie), and all models with another value."""
    most = Counter(values.values()).most_common(1)[0][0]
    return next(name for name in values if values[name] == most), [name for name in values if values[name] != most]


def find_layout_mismatches(layouts: Mapping[str, Layout]) -> dict[str, str]:
    """Return the models whose tensors differ from those of most, in the order given: name → the reason."""
    reference, differences = _find_layout_differences(layouts)
    return {name: _describe_difference(difference, reference) for name, difference in differences.items()}


def _find_layout_differences(layouts: Mapping[str, Layout]) -> tuple[str, dict[str, LayoutDifference]]:
    """Return the reference model, and the difference of each model with another layout."""
    if not layouts:
        return "", {}
    reference, outliers = find_outliers({name: tuple(sorted(layout.items())) for name, layout in layouts.items()})
    differences = {name: find_difference(layouts[reference], layouts[name]) for name in outliers}
    return reference, {name: each for name, each in differences.items() if each is not None}


def _describe_difference(difference: LayoutDifference, reference: str) -> str:
    problem = difference.problem(reference)
    if not difference.found:
        return f"it {problem} that {reference} has: {difference.expected}"
    if not difference.expected:
        return f"it {problem} that {reference} lacks: {difference.found}"
    return f"its {problem}: expected {difference.expected}, found {difference.found}"


def check_layouts(layouts: Mapping[str, Layout]) -> None:
    """Raise unless all models have the same tensors: names, shapes and dtypes.

    Raises:
        DataError: the message names the first model that differs from most (from the first, in a tie), its first
            differing tensor by name, what was expected and found, and the number of other models that differ.
    """
    reference, differences = _find_layout_differences(layouts)
    for name, difference in differences.items():
        raise DataError(
            f"{name}: {difference.problem(reference)}{other_outliers_text(len(differences) - 1)}",
            expected=difference.expected or f"the tensors of {reference}",
            found=difference.found,
            next_step="leave it out: only fine-tunes of one model with one list of classes can be averaged",
        )


def other_outliers_text(number: int) -> str:
    """Return the end of an error message on the first of several models: `number` others do not fit either."""
    if number == 0:
        return ""
    return f", and {number} other{'s do' if number > 1 else ' does'} not fit either"


def check_duplicates(hashes: Mapping[str, str]) -> None:
    """Raise if two models have the same SHA-256, because the model would count twice.

    Raises:
        DataError: the message names the first two.
    """
    seen: dict[str, str] = {}
    for name, sha256 in hashes.items():
        if sha256 in seen:
            raise DataError(
                f"{seen[sha256]} and {name} are the same model twice",
                expected="each model once",
                found=f"SHA-256 {sha256} for both",
                next_step="leave one of them out, or give it more weight",
            )
        seen[sha256] = name
