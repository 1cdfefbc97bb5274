"""Colours to draw with: RGB in [0, 255], mixed, shaded, and nearly the same."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

Colour = tuple[float, float, float]
Choice = TypeVar("Choice")


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Some of one and `share`, in [0, 1], of the other."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour, darker (below 1) or lighter."""
    red, green, blue = (min(255.0, value * factor) for value in colour)
    return red, green, blue


def near(colour: Colour, rng: "np.random.Generator", deviation: float) -> Colour:
    """A colour whose channels differ by chance, with this standard deviation."""
    red, green, blue = (min(255.0, max(0.0, value + rng.normal(0, deviation))) for value in colour)
    return red, green, blue


def rounded(colour: Colour) -> tuple[int, int, int]:
    """The colour as Pillow takes it."""
    red, green, blue = (round(value) for value in colour)
    return red, green, blue


def any_of(choices: Sequence[Choice], rng: "np.random.Generator") -> Choice:
    """One of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
