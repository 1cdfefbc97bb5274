"""What is looked at before any work: whether models can be averaged at all, and which of them do not belong."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from soups.core.errors import DataError
from soups.weights.safetensors_header import Layout, LayoutDifference, find_difference

WRAPPERS = ("module.", "_orig_mod.")
"""What data-parallel training and `torch.compile` put before the names of all tensors."""

Value = TypeVar("Value")


def strip_prefix(state: Mapping[str, Value], wrappers: Sequence[str] = WRAPPERS) -> tuple[dict[str, Value], str]:
    """A state (or layout) without the prefix that wrappers gave to all its names, nested in any order.

    Returns:
        The state with shorter names, in the same order, and the prefix: empty where not all names have one.
    """
    prefix = ""
    while state:
        wrapper = next((each for each in wrappers if all(key.startswith(prefix + each) for key in state)), None)
        if wrapper is None:
            break
        prefix += wrapper
    return {key.removeprefix(prefix): value for key, value in state.items()}, prefix


def find_outliers(values: Mapping[str, Hashable]) -> tuple[str, list[str]]:
    """The first model that is like most others (the very first among equals), and those that are not like it."""
    most = Counter(values.values()).most_common(1)[0][0]
    return next(name for name in values if values[name] == most), [name for name in values if values[name] != most]


def find_layout_mismatches(layouts: Mapping[str, Layout]) -> dict[str, str]:
    """The models whose tensors differ from those of most, in the order given: name → what is wrong, in one sentence."""
    reference, odd = _misfits(layouts)
    return {name: _sentence(found, reference) for name, found in odd.items()}


def _misfits(layouts: Mapping[str, Layout]) -> tuple[str, dict[str, LayoutDifference]]:
    if not layouts:
        return "", {}
    reference, odd = find_outliers({name: tuple(sorted(layout.items())) for name, layout in layouts.items()})
    found = {name: find_difference(layouts[reference], layouts[name]) for name in odd}
    return reference, {name: each for name, each in found.items() if each is not None}


def _sentence(found: LayoutDifference, reference: str) -> str:
    if not found.found:
        return f"it {found.problem(reference)} that {reference} has: {found.expected}"
    if not found.expected:
        return f"it {found.problem(reference)} that {reference} lacks: {found.found}"
    return f"its {found.problem(reference)}: expected {found.expected}, found {found.found}"


def check_layouts(layouts: Mapping[str, Layout]) -> None:
    """Raise unless all models have the same tensors: names, shapes and dtypes.

    Raises:
        DataError: names the first model that differs from most (from the first, among equals), the first such tensor
            by name, what was expected and found, and how many more models do not fit.
    """
    reference, odd = _misfits(layouts)
    for name, found in odd.items():
        raise DataError(
            f"{name}: {found.problem(reference)}{other_outliers_text(len(odd) - 1)}",
            expected=found.expected or f"the tensors of {reference}",
            found=found.found,
            next_step="leave it out: only fine-tunes of one model with one list of classes can be averaged",
        )


def other_outliers_text(number: int) -> str:
    """The end of a message on the first of several models that do not fit."""
    if number == 0:
        return ""
    return f", and {number} other{'s do' if number > 1 else ' does'} not fit either"


def check_duplicates(hashes: Mapping[str, str]) -> None:
    """Raise where two models have the same SHA-256: one would count twice.

    Raises:
        DataError: names the first two.
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
