"""Appearance of the drawn people, and the differences between photos.

Gender shows in the length of the hair and a little in brows, jaw and lips; age shows in wrinkles and grey hair, which
follow the years and not the label's bands. Some pictures are ambiguous: hair that fits any gender, a mask whose edge is
at the tip of the nose, a mask under the chin that could be a scarf.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.demo_data.colours import Colour, choose, mix, vary

if TYPE_CHECKING:
    import numpy as np

SKINS: tuple[Colour, ...] = ((250, 220, 196), (240, 200, 170), (226, 182, 148), (208, 162, 128), (184, 136, 104))
HAIRS: tuple[Colour, ...] = ((28, 24, 26), (44, 32, 28), (70, 46, 34), (96, 62, 42), (128, 84, 56))
GREY_HAIR: Colour = (214, 214, 216)
# No colour is similar to skin: such a mask would be invisible at a model's resolution, not ambiguous.
MASKS: tuple[tuple[Colour, ...], ...] = (
    ((150, 200, 226), (120, 180, 216), (170, 214, 204)),  # surgical, pleated
    ((244, 244, 246), (226, 232, 240)),  # folded, pointed at the chin
    ((34, 34, 38), (60, 62, 70), (40, 44, 66)),  # dark cloth
    ((196, 70, 78), (70, 110, 80), (84, 84, 150)),  # cloth with dots
    ((170, 226, 190), (196, 186, 240), (160, 214, 236)),  # pastel
)


@dataclass(frozen=True)
class Look:
    """A person's constant attributes. Lengths are in the face's frame (half the face's height is 1)."""

    skin: Colour
    hair: Colour
    wrinkles: float
    """0 none, 1 deep."""
    width: float
    """Half the width of the head."""
    jaw: float
    """Half the width of the chin."""
    brow: float
    """Thickness of the brows."""
    eyes: float
    """Half the distance between the eyes."""
    lips: float
    """Redness of the lips, in [0, 1]."""
    length: float
    """Length of the hair: 0 short, 1 shoulder-length."""
    volume: float
    """Volume of the hair beyond the head."""
    hairline: float
    """y of the middle of the forehead's upper end."""
    parting: float
    """x of the parting."""
    glasses: bool
    cloth: Colour


@dataclass(frozen=True)
class Mask:
    """A mask and its position in the face's frame."""

    kind: int
    """Index into `MASKS`."""
    colour: Colour
    top: float
    """y of the upper edge's middle."""
    bottom: float
    tilt: float
    """How much lower the upper edge is on the right."""


@dataclass(frozen=True)
class Shot:
    """One photo: mask, pose (pixels of 384 × 512, radians), light and camera."""

    mask: Mask | None
    scarf: Colour | None
    walls: tuple[Colour, Colour]
    middle: tuple[float, float]
    """The middle of the face."""
    size: float
    """Half the face's height."""
    tilt: float
    turn: float
    """Turn of the head, as the eyes' shift in the face's frame."""
    nod: float
    smile: float
    eyes_open: float
    light: tuple[float, float]
    """Brightness gradient to the right and downwards."""
    exposure: float
    warmth: float
    blur: float
    """Radius in pixels of 192 × 256."""
    noise: float
    """Standard deviation in grey levels, before enlarging to 384 × 512."""
    quality: int
    """Quality of the JPEG."""


def draw_look(rng: "np.random.Generator", gender: str, age: int, telling: bool) -> Look:
    """Return a random person of this gender and age; `telling`: the hair shows the gender."""
    female = gender == "female"
    grey, wrinkles = (_within((age + rng.normal(0, 3) - first) / years) for first, years in ((30, 34), (22, 42)))
    length, brow = (rng.uniform(0.85, 1.1), 0.045) if female else (rng.uniform(0.0, 0.15), 0.085)
    if not telling:
        length, brow = rng.uniform(0.3, 0.55), 0.065
    tone = int(rng.integers(len(SKINS) - 1))
    receding = 0.0 if female else 0.1 * max(0, age - 45) / 30
    return Look(
        skin=vary(mix(SKINS[tone], SKINS[tone + 1], rng.random()), rng, 3),
        hair=mix(vary(choose(HAIRS, rng), rng, 6), GREY_HAIR, grey),
        wrinkles=wrinkles,
        width=rng.normal(0.72, 0.03),
        jaw=rng.normal(0.36 if female else 0.42, 0.03),
        brow=rng.normal(brow, 0.008),
        eyes=rng.normal(0.32, 0.02),
        lips=rng.uniform(0.2, 1.0) if female else rng.uniform(0, 0.5),
        length=length,
        volume=rng.uniform(0.1, 0.2),
        hairline=rng.normal(-0.62 - receding, 0.04),
        parting=rng.uniform(-0.35, 0.35),
        glasses=bool(rng.random() < 0.25),
        cloth=_muted(rng),
    )


def draw_shot(rng: "np.random.Generator", wear: str, kind: int, doubtful: bool) -> Shot:
    """Return a random photo.

    Args:
        rng: random generator.
        wear: how the mask is worn: `mask`, `incorrect` or `normal` (none).
        kind: index into `MASKS`.
        doubtful: whether `wear` is ambiguous in the photo.
    """
    wall, mask = _muted(rng), draw_mask(rng, wear, kind, doubtful)
    return Shot(
        mask=mask,
        scarf=vary(choose(MASKS[kind], rng), rng, 8) if doubtful and mask is None else None,
        walls=(wall, vary(wall, rng, 12)),
        middle=(rng.normal(192, 8), rng.normal(250, 8)),
        size=rng.normal(136, 5),
        tilt=rng.normal(0, 0.04),
        turn=rng.normal(0, 0.05),
        nod=rng.normal(0, 0.03),
        smile=rng.uniform(-0.2, 1.0),
        eyes_open=rng.uniform(0.7, 1.1),
        light=(rng.normal(0, 0.06), rng.normal(-0.03, 0.04)),
        exposure=rng.normal(0.95, 0.06),
        warmth=rng.normal(0, 0.02),
        blur=rng.uniform(0.2, 1.2),
        noise=rng.uniform(2, 9),
        quality=int(rng.integers(70, 93)),
    )


def draw_mask(rng: "np.random.Generator", wear: str, kind: int, doubtful: bool) -> Mask | None:
    """Return a mask worn well, under the nose or on the chin, or None; doubtful ones are near the tip of the nose or
    low."""
    if wear == "normal":
        return None
    bottom = rng.uniform(1.03, 1.12)
    if wear == "mask":
        top = rng.uniform(0.12, 0.27) if doubtful else rng.uniform(-0.02, 0.1)
    else:
        upper = rng.random() < 0.65
        if doubtful:
            top = rng.uniform(0.25, 0.4) if upper else rng.uniform(0.76, 0.86)
        else:
            top = rng.uniform(0.42, 0.5) if upper else rng.uniform(0.64, 0.74)
        bottom += 0.12 if top < 0.75 else 0.2
    return Mask(kind, vary(choose(MASKS[kind], rng), rng, 8), top, bottom, rng.normal(0, 0.02))


def _within(value: float) -> float:
    return float(min(1.0, max(0.0, value)))


def _muted(rng: "np.random.Generator") -> Colour:
    """Return a colour of a wall or clothing, light enough for the hair to stand out."""
    return vary((rng.uniform(120, 235),) * 3, rng, 30)
