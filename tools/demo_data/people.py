"""The drawn people: what each looks like, and what changes from photo to photo.

Somebody's gender shows in the length of the hair, and a little in brows, jaw and lips; their age in wrinkles and grey
hair, which follow the years and not the bands of the label. Some pictures are honestly doubtful: hair that anybody
could wear, a mask whose edge is at the nose's tip, a mask under the chin that could be a scarf.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.demo_data.colours import Colour, any_of, mixed, near

if TYPE_CHECKING:
    import numpy as np

SKINS: tuple[Colour, ...] = ((250, 220, 196), (240, 200, 170), (226, 182, 148), (208, 162, 128), (184, 136, 104))
HAIRS: tuple[Colour, ...] = ((28, 24, 26), (44, 32, 28), (70, 46, 34), (96, 62, 42), (128, 84, 56))
GREY_HAIR: Colour = (214, 214, 216)
# None is like skin: such a mask is not doubtful but, at a model's resolution, invisible.
MASKS: tuple[tuple[Colour, ...], ...] = (
    ((150, 200, 226), (120, 180, 216), (170, 214, 204)),  # surgical, pleated
    ((244, 244, 246), (226, 232, 240)),  # folded, with a pointed chin
    ((34, 34, 38), (60, 62, 70), (40, 44, 66)),  # dark cloth
    ((196, 70, 78), (70, 110, 80), (84, 84, 150)),  # cloth with dots
    ((170, 226, 190), (196, 186, 240), (160, 214, 236)),  # pastel
)


@dataclass(frozen=True)
class Look:
    """A person, the same in all photos. Lengths are in the face's frame (half the face's height is 1)."""

    skin: Colour
    hair: Colour
    wrinkles: float
    """0 none, 1 deep."""
    width: float
    """Half the head's."""
    jaw: float
    """Half the chin's width."""
    brow: float
    """Thickness."""
    eyes: float
    """Half the distance between them."""
    lips: float
    """Redness, in [0, 1]."""
    length: float
    """Of the hair: 0 short, 1 on the shoulders."""
    volume: float
    """Of the hair, beyond the head."""
    hairline: float
    """y of the middle of the forehead's upper end."""
    parting: float
    """x."""
    glasses: bool
    cloth: Colour


@dataclass(frozen=True)
class Mask:
    """A mask and where it is, in the face's frame."""

    kind: int
    """Index into `MASKS`."""
    colour: Colour
    top: float
    """y of the upper edge's middle."""
    bottom: float
    tilt: float
    """How much lower the upper edge is to the right."""


@dataclass(frozen=True)
class Shot:
    """One photo: what is in it beside the person, pose in pixels of 384 × 512 and radians, light, and the camera."""

    mask: Mask | None
    scarf: Colour | None
    walls: tuple[Colour, Colour]
    middle: tuple[float, float]
    """Of the face."""
    size: float
    """Half the face's height."""
    tilt: float
    turn: float
    """To the side, as the shift of the eyes in the face's frame."""
    nod: float
    smile: float
    eyes_open: float
    light: tuple[float, float]
    """Brightness gained to the right and downwards."""
    exposure: float
    warmth: float
    blur: float
    """Radius in pixels of 192 × 256."""
    noise: float
    """Standard deviation in grey levels, before enlarging to 384 × 512."""
    quality: int
    """Of the JPEG."""


def draw_look(rng: "np.random.Generator", gender: str, age: int, telling: bool) -> Look:
    """Somebody of this gender and age; `telling` says whether their hair tells the gender."""
    female = gender == "female"
    grey, wrinkles = (_within((age + rng.normal(0, 3) - first) / years) for first, years in ((30, 34), (22, 42)))
    length, brow = (rng.uniform(0.85, 1.1), 0.045) if female else (rng.uniform(0.0, 0.15), 0.085)
    if not telling:
        length, brow = rng.uniform(0.3, 0.55), 0.065
    tone = int(rng.integers(len(SKINS) - 1))
    receding = 0.0 if female else 0.1 * max(0, age - 45) / 30
    return Look(
        skin=near(mixed(SKINS[tone], SKINS[tone + 1], rng.random()), rng, 3),
        hair=mixed(near(any_of(HAIRS, rng), rng, 6), GREY_HAIR, grey),
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
    """A photo of somebody.

    Args:
        rng: decides all that is left open.
        wear: how the mask is worn: `mask`, `incorrect` or `normal` (none).
        kind: of the mask, index into `MASKS`.
        doubtful: whether that is hard to tell.
    """
    wall, mask = _muted(rng), draw_mask(rng, wear, kind, doubtful)
    return Shot(
        mask=mask,
        scarf=near(any_of(MASKS[kind], rng), rng, 8) if doubtful and mask is None else None,
        walls=(wall, near(wall, rng, 12)),
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
    """A mask worn well, or under the nose or on the chin, or none; the doubtful are near the nose's tip or hang low."""
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
    return Mask(kind, near(any_of(MASKS[kind], rng), rng, 8), top, bottom, rng.normal(0, 0.02))


def _within(value: float) -> float:
    return float(min(1.0, max(0.0, value)))


def _muted(rng: "np.random.Generator") -> Colour:
    """A wall or a piece of clothing: rather light, so that hair stands out from it."""
    return near((rng.uniform(120, 235),) * 3, rng, 30)
