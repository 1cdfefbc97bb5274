"""Drawing of one portrait: head and shoulders of simple shapes, then light, blur and noise of a camera.

A face has its own frame: origin in its middle, y down, the crown at −1, the chin at 1. A pose maps it to the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.demo_data.colours import Colour, shade, to_rgb
from tools.demo_data.people import Look, Mask, Shot

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

WIDTH, HEIGHT = 384, 512  # pixels
EYES, NOSE_TIP, MOUTH = -0.06, 0.33, 0.6

_Points = Sequence[tuple[float, float]]


def portrait(look: Look, shot: Shot, rng: "np.random.Generator") -> "Image.Image":
    """Draw one photo of a person.

    Args:
        look: the person's constant attributes.
        shot: the photo's attributes.
        rng: random generator of the sensor noise.

    Returns:
        384 × 512 pixels, RGB.
    """
    from PIL import Image

    sheet = Sheet.posed(shot)
    _background(sheet, shot)
    _back_hair(sheet, look)
    _body(sheet, look, shot)
    _head(sheet, look)
    _draw_wrinkles(sheet, look, shot)
    _eyes(sheet, look, shot)
    _nose(sheet, look, shot)
    _mouth(sheet, look, shot)
    if shot.mask is not None:
        _mask(sheet, look, shot.mask, shot)
    if shot.scarf is not None:
        _scarf(sheet, look, shot.scarf)
    if look.glasses:
        _glasses(sheet, look, shot)
    _front_hair(sheet, look)
    small = _add_camera_effects(sheet.image.reduce(2), shot, rng)
    return small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Sheet:
    """A picture to draw on, with the mapping from the face's frame to pixels."""

    image: "Image.Image"
    draw: "ImageDraw.ImageDraw"
    linear: "np.ndarray"  # (2, 2)
    middle: "np.ndarray"  # (2,)

    @classmethod
    def posed(cls, shot: Shot) -> "Sheet":
        """Return an empty sheet for this photo's pose."""
        import numpy as np
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (WIDTH, HEIGHT))
        cos, sin = np.cos(shot.tilt), np.sin(shot.tilt)
        return cls(image, ImageDraw.Draw(image), shot.size * np.array([[cos, -sin], [sin, cos]]), np.array(shot.middle))

    def area(self, points: _Points, colour: Colour, smooth: bool = True) -> None:
        """Draw a filled polygon, given by points of the face's frame."""
        self.draw.polygon(self._pixels(curve(points, closed=True) if smooth else points), fill=to_rgb(colour))

    def line(self, points: _Points, colour: Colour, thickness: float) -> None:
        """Draw a smooth line; its thickness is in the face's frame."""
        pixels = max(1, round(thickness * float(abs(self.linear[0, 0]))))
        self.draw.line(self._pixels(curve(points, closed=False)), fill=to_rgb(colour), width=pixels, joint="curve")

    def oval(self, middle: tuple[float, float], radii: tuple[float, float], colour: Colour) -> None:
        """Draw a filled ellipse."""
        import numpy as np

        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        points = np.stack([middle[0] + radii[0] * np.cos(turn), middle[1] + radii[1] * np.sin(turn)], axis=1)
        self.draw.polygon(self._pixels(points), fill=to_rgb(colour))

    def _pixels(self, points: "_Points | np.ndarray") -> list[tuple[float, float]]:
        import numpy as np

        return [(x, y) for x, y in np.asarray(points) @ self.linear.T + self.middle]


def curve(points: _Points, closed: bool, steps: int = 6) -> "np.ndarray":
    """Return a Catmull-Rom curve, (steps · N, 2) points from (N, 2) points; open curves start and end at the given
    points."""
    import numpy as np

    knots = np.asarray(points, dtype=float)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    knots = np.concatenate([ends[0], knots, ends[1]])
    one, two, three, four = (knots[start : len(knots) - 3 + start, None] for start in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    cubic, square = 3 * (two - three) + four - one, 2 * one - 5 * two + 4 * three - four
    bent = two + t * (three - one + t * (square + t * cubic)) / 2
    flat = bent.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, knots[-1:]])


def mirror(right: _Points) -> list[tuple[float, float]]:
    """Return a closed outline from its right half, given from top to bottom; points on the middle line occur once."""
    return [*right, *[(-x, y) for x, y in reversed(right) if x]]


def _background(sheet: Sheet, shot: Shot) -> None:
    sheet.draw.rectangle((0, 0, WIDTH, HEIGHT), fill=to_rgb(shot.walls[0]))
    edge = min(WIDTH, max(0, WIDTH * (0.5 + 6 * shot.turn)))  # a corner of the room
    sheet.draw.rectangle((edge, 0, WIDTH, HEIGHT), fill=to_rgb(shot.walls[1]))


def _back_hair(sheet: Sheet, look: Look) -> None:
    wide, end = look.width + look.volume, -0.1 + 1.5 * look.length
    if look.length > 0.2:
        outline = [(0, -1.0 - look.volume), (0.6 * wide, -0.92), (wide, -0.4), (1.05 * wide, 0.3 * end + 0.1)]
        sheet.area(mirror([*outline, (1.1 * wide, 0.8 * end), (0.95 * wide, end), (0, end)]), shade(look.hair, 0.75))


def _body(sheet: Sheet, look: Look, shot: Shot) -> None:
    neck = 0.45 * look.width + 0.3 * look.jaw
    sheet.area([(-neck, 0.5), (neck, 0.5), (neck, 1.6), (-neck, 1.6)], shade(look.skin, 0.82), smooth=False)
    sheet.area(mirror([(0, 1.62), (0.35, 1.4), (1.0, 1.55), (1.5, 1.9), (1.7, 3), (0, 3.2)]), look.cloth)


def _scarf(sheet: Sheet, look: Look, colour: Colour) -> None:
    wide = 0.5 * look.width + 0.45 * look.jaw
    sheet.area(mirror([(0, 0.94), (wide, 0.86), (1.15 * wide, 1.35), (0, 1.5)]), colour)


def _outline(look: Look) -> list[tuple[float, float]]:
    wide = look.width
    upper = [(0, -1.0), (0.55 * wide, -0.9), (0.92 * wide, -0.55), (wide, -0.05), (0.93 * wide, 0.4)]
    return mirror([*upper, (0.5 * (look.jaw + wide), 0.74), (0.75 * look.jaw, 0.95), (0, 1.0)])


def _head(sheet: Sheet, look: Look) -> None:
    for side in (-1, 1):
        sheet.oval((side * look.width, 0.06), (0.11, 0.2), shade(look.skin, 0.9))
    sheet.area(_outline(look), look.skin)


def _draw_wrinkles(sheet: Sheet, look: Look, shot: Shot) -> None:
    """Draw wrinkles that deepen with age: on the forehead, beside and under the eyes, and from nose to mouth."""
    dark, thick = shade(look.skin, 1 - 0.42 * look.wrinkles), 0.02 + 0.03 * look.wrinkles
    top = look.hairline
    for number in range(3):
        y = top + (EYES - 0.22 - top) * (number + 1) / 3.6 + shot.nod
        sheet.line([(-0.34, y + 0.02), (0, y - 0.02), (0.34, y + 0.02)], dark, thick)
    for side in (-1, 1):
        x = side * look.eyes + shot.turn
        sheet.line([(x - 0.13, EYES + 0.13), (x, EYES + 0.19), (x + 0.13, EYES + 0.13)], dark, thick)
        for rise in (-0.07, 0.0, 0.07):
            start = x + side * 0.2
            sheet.line([(start, EYES + 0.4 * rise), (start + side * 0.11, EYES + rise)], dark, 0.7 * thick)
        fold = [(0.16, NOSE_TIP), (0.26, 0.46), (0.3, 0.64)]
        sheet.line([(side * a + shot.turn, b + shot.nod) for a, b in fold], dark, thick)


def _eyes(sheet: Sheet, look: Look, shot: Shot) -> None:
    for side in (-1, 1):
        x, y, opened = side * look.eyes + shot.turn, EYES + shot.nod, 0.075 * shot.eyes_open
        sheet.oval((x, y), (0.14, opened), (250, 248, 245))
        sheet.oval((x + 0.3 * shot.turn, y), (0.068, min(0.068, opened)), (44, 30, 26))
        sheet.line([(x - 0.14, y), (x, y - opened), (x + 0.14, y)], (40, 30, 30), 0.025)
        brow = [(x - side * 0.17, y - 0.17), (x, y - 0.22), (x + side * 0.18, y - 0.16)]
        sheet.line(brow, shade(look.hair, 0.8), look.brow)


def _nose(sheet: Sheet, look: Look, shot: Shot) -> None:
    x, y, tone = 1.6 * shot.turn, NOSE_TIP + 1.5 * shot.nod, shade(look.skin, 0.8)
    sheet.line([(shot.turn - 0.05, EYES + 0.05), (x - 0.09, y - 0.1), (x - 0.1, y)], tone, 0.025)
    sheet.line([(x - 0.12, y - 0.02), (x, y + 0.05), (x + 0.12, y - 0.02)], tone, 0.035)
    for side in (-1, 1):
        sheet.oval((x + side * 0.06, y + 0.015), (0.028, 0.02), shade(look.skin, 0.45))


def _mouth(sheet: Sheet, look: Look, shot: Shot) -> None:
    red, green, blue = look.skin
    lips = shade((red, green * (1 - 0.4 * look.lips), blue * (1 - 0.35 * look.lips)), 0.82)
    middle, lift = MOUTH + shot.nod, 0.05 * shot.smile
    points = [(shot.turn - 0.22, middle - lift), (shot.turn, middle + lift), (shot.turn + 0.22, middle - lift)]
    sheet.line(points, lips, 0.07)
    sheet.line(points, shade(lips, 0.6), 0.02)


def _glasses(sheet: Sheet, look: Look, shot: Shot) -> None:
    frame = (30, 30, 34)
    for side in (-1, 1):
        x, y = side * look.eyes + shot.turn, EYES + shot.nod + 0.02
        box = [(x - 0.22, y - 0.15), (x + 0.22, y - 0.15), (x + 0.2, y + 0.16), (x - 0.2, y + 0.16)]
        sheet.line([*box, box[0]], frame, 0.03)
        sheet.line([(x + side * 0.22, y - 0.06), (side * look.width, y)], frame, 0.03)
    sheet.line([(shot.turn - 0.1, EYES), (shot.turn + 0.1, EYES)], frame, 0.03)


def _mask(sheet: Sheet, look: Look, mask: Mask, shot: Shot) -> None:
    top, bottom, wide = mask.top + shot.nod, mask.bottom, 0.97 * look.width
    peak = 0.14 if mask.kind in (1, 2) else 0.06  # how much higher the edge is on the nose than on the cheeks
    for side in (-1, 1):
        for y, ear in ((top + peak + 0.05, -0.02), (bottom - 0.25, 0.2)):
            sheet.line([(side * 0.8 * wide, y), (side * look.width, ear)], shade(mask.colour, 0.85), 0.025)
    right = [(shot.turn, top), (0.45 * wide, top + peak), (0.93 * wide, top + 1.6 * peak)]
    right += [(0.93 * wide, (top + bottom) / 2), (0.6 * look.jaw + 0.35 * wide, bottom - 0.17)]
    right += [(0.6 * look.jaw, bottom - 0.02), (0, bottom)]
    outline = [(x, y + mask.tilt * x) for x, y in right] + [(-x, y - mask.tilt * x) for x, y in reversed(right[1:-1])]
    sheet.area(outline, mask.colour)
    _pattern(sheet, mask, shot, wide)


def _pattern(sheet: Sheet, mask: Mask, shot: Shot, wide: float) -> None:
    """Draw pleats, folds, a seam or dots, depending on the mask's kind."""
    top, height, turn, fold = mask.top + shot.nod, mask.bottom - mask.top, shot.turn, shade(mask.colour, 0.86)
    if mask.kind == 0:
        for share in (0.3, 0.5, 0.7):
            y = top + share * height
            sheet.line([(-0.75 * wide, y), (turn, y + 0.03), (0.75 * wide, y)], fold, 0.025)
    elif mask.kind == 1:
        for side in (-1, 1):
            y = top + height / 2 + 0.1 * side
            sheet.line([(-0.8 * wide, y), (turn, y + 0.03 * side), (0.8 * wide, y)], fold, 0.03)
    elif mask.kind == 2:
        sheet.line([(turn, top + 0.02), (1.3 * turn, top + height / 2), (0, top + height - 0.02)], fold, 0.03)
    elif mask.kind == 3:
        for x in (-0.45, -0.15, 0.15, 0.45):
            for share in (0.3, 0.55, 0.8):
                sheet.oval((x * (1.2 - 0.4 * share), top + share * height), (0.05, 0.05), (240, 236, 226))


def _front_hair(sheet: Sheet, look: Look) -> None:
    wide, line = look.width, look.hairline
    out, end = look.width + look.volume, -0.15 + 1.3 * look.length
    part = look.parting
    cap = [(-1.02 * wide, -0.05), (-out, -0.45), (-0.62 * out, -0.95), (0, -1.0 - look.volume), (0.62 * out, -0.95)]
    cap += [(out, -0.45), (1.02 * wide, -0.05), (0.9 * wide, -0.28), (0.72 * wide, line + 0.14), (part, line)]
    cap += [(-0.72 * wide, line + 0.14), (-0.9 * wide, -0.28)]
    sheet.area(cap, look.hair)
    if look.length > 0.2:
        for side in (-1, 1):
            lock = [(side * 0.3, -0.95), (side * 1.02 * out, -0.5), (side * 1.08 * out, 0.4 * end), (side * out, end)]
            lock += [(side * 0.8 * wide, 0.95 * end), (side * 0.9 * wide, 0.3 * end), (side * 0.8 * wide, -0.4)]
            sheet.area(lock, look.hair)
    strand = shade(look.hair, 1.1)
    for share in (-0.6, -0.3, 0.2, 0.5):
        sheet.line([(part + 0.1 * share, -0.98), (share * out, -0.8), (1.3 * share * wide, line - 0.02)], strand, 0.02)


def _add_camera_effects(image: "Image.Image", shot: Shot, rng: "np.random.Generator") -> "Image.Image":
    """Add light from one side, lens blur and sensor noise to a half-size RGB picture."""
    import numpy as np
    from PIL import Image, ImageFilter

    blurred = image.filter(ImageFilter.GaussianBlur(shot.blur))
    across, down = np.linspace(-1, 1, image.width), np.linspace(-1, 1, image.height)[:, None]
    light = shot.exposure * (1 + shot.light[0] * across + shot.light[1] * down)
    tint = np.array([1 + shot.warmth, 1.0, 1 - shot.warmth], dtype=np.float32)
    pixels = np.asarray(blurred, dtype=np.float32) * light.astype(np.float32)[:, :, None] * tint
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(shot.noise)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
