"""Captioned icons of people for the faces' start model: flat drawings in another style than the portraits.

The attributes of an icon are drawn uniformly and independently: the three factors of the portraits' labels, and four
without a label (hat, glasses, beard, colour of the background).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.demo_data.colours import Colour, choose, mix, shade, to_rgb

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

SIZE = 48  # pixels
_LARGER = 2  # factor of supersampling, for smooth edges

BACKGROUNDS: dict[str, Colour] = {
    "red": (222, 70, 60),
    "orange": (245, 160, 60),
    "yellow": (248, 220, 90),
    "green": (90, 180, 100),
    "blue": (80, 130, 220),
    "purple": (150, 100, 200),
    "pink": (245, 170, 200),
    "brown": (150, 110, 80),
    "grey": (150, 150, 150),
    "black": (40, 40, 40),
    "white": (245, 245, 245),
}
LEVELS: dict[str, tuple[str, ...]] = {
    "mask": ("mask", "incorrect", "normal"),
    "gender": ("male", "female"),
    "age": ("young", "middle", "old"),
    "hat": ("no", "yes"),
    "glasses": ("no", "yes"),
    "beard": ("no", "yes"),
    "background": tuple(BACKGROUNDS),
}
"""Attribute → its values; the first three attributes are the factors of the label."""
FACTORS = tuple(LEVELS)[:3]

# The phrases of each mask level have a word of their own: with "no mask" and "a mask under the nose" beside "a mask",
# the text tower did not separate the three, and the masks were never learned.
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "mask": {
        "mask": ("wearing a mask", "with a mask"),
        "incorrect": ("with an incorrect cover", "covered incorrect"),
        "normal": ("with a normal face", "looking normal"),
    },
    "gender": {"male": ("man", "male"), "female": ("woman", "female")},
    "age": {"young": ("young",), "middle": ("middle aged", "middle"), "old": ("old",)},
    "hat": {"no": ("without a hat",), "yes": ("with a hat",)},
    "glasses": {"no": ("without glasses",), "yes": ("with glasses",)},
    "beard": {"no": ("without a beard",), "yes": ("with a beard",)},
    "background": {name: (f"on a {name} background",) for name in BACKGROUNDS},
}
TEMPLATES = ("a photo of a {}.", "a photo of a {}", "a picture of a {}.", "an icon of a {}.", "a drawing of a {}", "{}")

SKINS: tuple[Colour, ...] = ((255, 214, 100), (255, 224, 190), (240, 190, 150), (200, 145, 105), (150, 100, 70))
HAIRS: tuple[Colour, ...] = ((40, 30, 30), (80, 50, 30), (140, 80, 40), (200, 150, 80), (60, 50, 90))
GREY_HAIR: Colour = (222, 222, 226)
MASKS: tuple[Colour, ...] = (
    *((110, 180, 230), (250, 250, 250), (40, 40, 50), (230, 110, 140)),
    *((120, 200, 150), (190, 170, 240), (60, 110, 80), (190, 60, 70)),
)
INK: Colour = (30, 28, 28)
# Minimum and maximum depth of the lines, and share of grey in the hair.
_AGES = {"young": (0.0, 0.1, 0.0, 0.0), "middle": (0.5, 0.75, 0.0, 0.6), "old": (0.85, 1.0, 0.8, 1.0)}


@dataclass(frozen=True)
class Icon:
    """An icon: a value of each attribute, in the order of `LEVELS`."""

    mask: str
    gender: str
    age: str
    hat: str
    glasses: str
    beard: str
    background: str


def draw_icon(rng: "np.random.Generator") -> Icon:
    """Return a random icon; all attributes are uniform and independent."""
    return Icon(*(choose(values, rng) for values in LEVELS.values()))


def draw_attribute_sets(rng: "np.random.Generator") -> list[tuple[str, ...]]:
    """Return the attribute sets that a batch's captions describe: all factors, each factor, one other, several."""
    names = tuple(LEVELS)
    several = tuple(name for name in names if rng.random() < 0.3)
    attribute_sets = [FACTORS, *((name,) for name in FACTORS), (choose(names[len(FACTORS) :], rng),)]
    return [*attribute_sets, several] if len(several) > 1 else attribute_sets


def caption(values: Mapping[str, str], rng: "np.random.Generator") -> str:
    """Return one way to express the values of some attributes in words.

    If all attributes are factors, half of the captions are the class name, as `mask/female/old` or with spaces.
    """
    if set(values) <= set(FACTORS) and rng.random() < 0.5:
        text = choose("/ ", rng).join(values[name] for name in FACTORS if name in values)
    else:
        phrases = {name: choose(PHRASES[name][value], rng) for name, value in values.items()}
        text = " ".join([*filter(None, [phrases.pop("age", "")]), phrases.pop("gender", "person"), *phrases.values()])
    return choose(TEMPLATES, rng).format(text)


def all_texts() -> list[str]:
    """Return captions that together contain every word of any caption."""
    phrases = [phrase for values in PHRASES.values() for phrases in values.values() for phrase in phrases]
    levels = [level for name in FACTORS for level in LEVELS[name]]
    return [template.format(text) for template in TEMPLATES for text in (*phrases, *levels, "/", "person")]


def render(icon: Icon, rng: "np.random.Generator", variety: float = 1.0) -> "Image.Image":
    """Draw an icon, 48 × 48 pixels, RGB.

    Args:
        icon: the attributes.
        rng: random generator for sizes, positions and colours that are not attributes.
        variety: share of the mask colours that may occur, in [0, 1]; 0 means one colour.
    """
    from PIL import Image, ImageDraw

    side = SIZE * _LARGER
    greyish = mix(BACKGROUNDS[icon.background], (rng.uniform(110, 240),) * 3, rng.uniform(0, 0.4))
    image = Image.new("RGB", (side, side), to_rgb(greyish))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.5:
        draw.rectangle((rng.uniform(0, side), 0, side, side), fill=to_rgb(shade(greyish, rng.uniform(0.85, 0.95))))
    tall = rng.uniform(0.245, 0.315) * side
    middle = (rng.uniform(0.46, 0.54) * side, rng.uniform(0.45, 0.54) * side)
    pen = _Pen(draw, middle, (tall * rng.uniform(0.85, 1.0), tall))
    masks = MASKS[: max(1, round(variety * len(MASKS)))]
    _draw(icon, pen, choose(masks, rng), rng)
    return image.reduce(_LARGER)


@dataclass(frozen=True)
class _Pen:
    """Draws in the frame of a head, whose ellipse spans −1 to 1 horizontally and vertically."""

    draw: "ImageDraw.ImageDraw"
    middle: tuple[float, float]
    half: tuple[float, float]

    def at(self, *numbers: float) -> list[float]:
        """Return pixel coordinates of x, y, x, y, … in the head's frame."""
        return [self.middle[place % 2] + number * self.half[place % 2] for place, number in enumerate(numbers)]

    def oval(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.draw.ellipse(self.at(left, top, right, bottom), fill=to_rgb(colour))

    def block(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.draw.rectangle(self.at(left, top, right, bottom), fill=to_rgb(colour))

    def shape(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon(self.at(*(number for point in points for number in point)), fill=to_rgb(colour))

    def line(self, left: float, top: float, right: float, bottom: float, colour: Colour, thickness: float) -> None:
        width = max(1, round(thickness * self.half[1]))
        self.draw.line(self.at(left, top, right, bottom), fill=to_rgb(colour), width=width)

    def cap(self, width: float, top: float, angle: float, colour: Colour) -> None:
        """Draw the upper part of an ellipse, cut by a straight line at this angle from the horizontal, in degrees."""
        self.draw.chord(self.at(-width, top, width, 1.0), 180 + angle, 360 - angle, fill=to_rgb(colour))


def _draw(icon: Icon, pen: _Pen, mask: Colour, rng: "np.random.Generator") -> None:
    least, most, grey_least, grey_most = _AGES[icon.age]
    skin = mix(choose(SKINS, rng), choose(SKINS, rng), rng.uniform(0, 0.5))
    hair = mix(choose(HAIRS, rng), choose(HAIRS, rng), rng.uniform(0, 0.5))
    hair = mix(hair, GREY_HAIR, rng.uniform(grey_least, grey_most))
    female = icon.gender == "female"
    if female:
        _long_hair(pen, hair, rng)
    pen.block(-0.35, 0.6, 0.35, 1.5, shade(skin, 0.85))
    pen.oval(-1.5, 1.15, 1.5, 3.5, choose(tuple(BACKGROUNDS.values()), rng))
    if not female:
        pen.oval(-1.12, -0.2, 1.12, 0.35, shade(skin, 0.95))  # ears
    pen.oval(-1, -1, 1, 1, skin)
    _draw_wrinkles(pen, skin, rng.uniform(least, most))
    _face(pen, skin, female, rng)
    if icon.mask != "normal":
        _mask(pen, icon.mask, mask, rng)
    if icon.beard == "yes":
        pen.shape([(-0.42, 0.9), (0.42, 0.9), (0.2, 1.5), (-0.2, 1.5)], hair)
    if icon.glasses == "yes":
        _glasses(pen)
    pen.cap(1.08, -1.12, 25 if female else 28, hair)
    if female:
        for side in (-1, 1):
            lock = [(0.5, -1.0), (1.1, -0.6), (1.1, 0.9), (0.8, 0.5), (0.85, -0.3)]
            pen.shape([(side * x, y) for x, y in lock], hair)
    if icon.hat == "yes":
        colour = choose(tuple(BACKGROUNDS.values()), rng)
        pen.block(-1.3, -0.85, 1.3, -0.65, colour)
        pen.block(-0.9, -1.5, 0.9, -0.8, colour)


def _long_hair(pen: _Pen, hair: Colour, rng: "np.random.Generator") -> None:
    wide, end = rng.uniform(1.15, 1.4), rng.uniform(0.9, 1.5)
    pen.oval(-wide, -1.1, wide, 0.3, hair)
    pen.block(-wide, -0.4, wide, end, hair)


def _face(pen: _Pen, skin: Colour, female: bool, rng: "np.random.Generator") -> None:
    eye = rng.uniform(0.09, 0.14)
    for x in (-0.42, 0.42):
        pen.oval(x - eye, -0.1 - eye, x + eye, -0.1 + eye, INK)
        pen.line(x - 0.2, -0.32, x + 0.2, -0.32, (60, 45, 40), 0.06 if female else 0.13)
    pen.shape([(0, -0.08), (0.2, 0.3), (-0.2, 0.3)], shade(skin, 0.7))
    pen.line(-0.28, 0.58, 0.28, 0.58, (180, 60, 60), 0.1)


def _draw_wrinkles(pen: _Pen, skin: Colour, depth: float) -> None:
    """Draw wrinkles: on the forehead, beside and under the eyes, and from nose to mouth."""
    if depth < 0.1:
        return
    dark = shade(skin, 1 - 0.5 * depth)
    for y in (-0.5, -0.62, -0.74)[: 3 if depth > 0.6 else 2]:
        pen.line(-0.4, y, 0.4, y, dark, 0.08)
    for side in (-1, 1):
        pen.line(side * 0.62, -0.1, side * 0.85, -0.18, dark, 0.08)
        pen.line(side * 0.62, -0.05, side * 0.85, 0.03, dark, 0.08)
        pen.line(side * 0.22, 0.12, side * 0.62, 0.12, dark, 0.08)
        pen.line(side * 0.25, 0.32, side * 0.42, 0.6, dark, 0.09)


def _mask(pen: _Pen, worn: str, colour: Colour, rng: "np.random.Generator") -> None:
    if worn == "mask":
        top, bottom = rng.uniform(-0.02, 0.12), rng.uniform(0.9, 1.1)
    elif rng.random() < 0.6:  # under the nose
        top, bottom = rng.uniform(0.36, 0.44), rng.uniform(1.0, 1.15)
    else:  # on the chin
        top, bottom = rng.uniform(0.66, 0.78), rng.uniform(1.1, 1.25)
    for side in (-1, 1):
        pen.line(side, -0.05, side * 0.8, top + 0.1, colour, 0.05)
    wide, half = rng.uniform(0.8, 0.92), (top + bottom) / 2
    right = [(wide, top), (0.95 * wide, half), (0.5, bottom)]
    pen.shape([*right, *[(-x, y) for x, y in reversed(right)]], colour)


def _glasses(pen: _Pen) -> None:
    for x in (-0.42, 0.42):
        pen.draw.ellipse(pen.at(x - 0.28, -0.32, x + 0.28, 0.14), outline=to_rgb(INK), width=_LARGER)
    pen.line(-0.14, -0.1, 0.14, -0.1, INK, 0.06)
