"""Operations on RGB colours in [0, 255]: mixing, shading, random variation, rounding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

Colour = tuple[float, float, float]
Choice = TypeVar("Choice")


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Return a mix of two colours; `share`, in [0, 1], is the part of the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour darker (factor below 1) or lighter."""
    red, green, blue = (min(255.0, value * factor) for value in colour)
    return red, green, blue


def vary(colour: Colour, rng: "np.random.Generator", deviation: float) -> Colour:
    """Return the colour plus Gaussian noise of this standard deviation on each channel."""
    red, green, blue = (min(255.0, max(0.0, value + rng.normal(0, deviation))) for value in colour)
    return red, green, blue


def to_rgb(colour: Colour) -> tuple[int, int, int]:
    """Return the colour as a tuple of integers for Pillow."""
    red, green, blue = (round(value) for value in colour)
    return red, green, blue


def choose(choices: Sequence[Choice], rng: "np.random.Generator") -> Choice:
    """Return one of the choices, drawn uniformly."""
    return choices[int(rng.integers(len(choices)))]
