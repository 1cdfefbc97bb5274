"""Captioned glyphs from matplotlib's fonts, drawn to look like scikit-learn's digits.

A letter is stored as a distance field: ink is where the field exceeds a level, so one field gives thin and thick
strokes. Half of the fields are printed letters, half their middle lines, like pen strokes. Rendering follows the
scanning of the digits: a 32 × 32 bitmap, counted in blocks of 4 × 4 to 8 × 8 pixels of 17 levels, enlarged bicubically
to 32 × 32.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import EnvironmentFailure

if TYPE_CHECKING:
    import numpy as np

SIZE = 32  # side in pixels of a rendered glyph, and of the bitmap it is counted from
BLOCKS = 8  # side in pixels at the digits' own resolution
FIELD = 64  # side in cells of a distance field
LETTER = 44  # cells of a letter's longer side; leaves room around it for thick strokes

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SIGNS = {"?": "question mark", "!": "exclamation mark", "+": "plus sign", "=": "equals sign", "&": "ampersand"}
CHARACTERS = DIGITS + LETTERS + "".join(SIGNS)

_RING = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a photo of the {}", "a photo of the {}.", "a blurry photo of the {}.", "a drawing of the {}.", "the {}")
DIGIT_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the number {}.",
    'a photo of the number: "{}".',
    "the number {}",
    "{}",
)

# Matplotlib's other fonts have only symbols, or (the monospaced ones) a dotted zero that is not handwritten.
FONTS = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"cm{style}10.ttf" for style in ("r", "b", "ss", "ti", "tt")),
)


def name_of(character: str) -> str:
    """Return a character's name: 'digit seven', 'capital letter q', 'small letter q', 'question mark'."""
    if character in SIGNS:
        return SIGNS[character]
    if character in DIGITS:
        return f"digit {WORDS[int(character)]}"
    return f"{'capital' if character.isupper() else 'small'} letter {character.lower()}"


def captions_of(character: str) -> list[str]:
    """Return all captions of a character; some captions of a digit are just its word."""
    captions = [template.format(name_of(character)) for template in TEMPLATES]
    if character in DIGITS:
        captions += [template.format(WORDS[int(character)]) for template in DIGIT_TEMPLATES]
    return captions


@dataclass(frozen=True)
class Atlas:
    """Letters ready to draw: every character in every font, printed and as pen strokes.

    fields: (G, 64, 64) float32; distance in cells to the edge of a printed letter, positive inside; for a pen
        letter, minus the distance to its middle line.
    thickness: (G,) float32; half the width of a printed letter's thinner strokes in cells; 0 for a pen letter.
    points: (G, P, 2) float32; some cells (x, y) of the letter, relative to the field's middle.
    characters: (G,) int64; index into `CHARACTERS`.
    """

    fields: "np.ndarray"
    thickness: "np.ndarray"
    points: "np.ndarray"
    characters: "np.ndarray"


def font_folder() -> Path:
    """Return the folder of matplotlib's fonts."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def letter_bitmap(font_file: Path, character: str) -> "np.ndarray":
    """Return one printed letter that fills the middle of its field, (64, 64) bool."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file), 2 * FIELD, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(character)
    sheet = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(sheet).text((-left, -top), character, fill=255, font=font)
    sheet = sheet.crop(sheet.getbbox())
    scale = LETTER / max(sheet.size)
    width, height = (max(3, round(side * scale)) for side in sheet.size)
    field = Image.new("L", (FIELD, FIELD))
    field.paste(sheet.resize((width, height), Image.Resampling.BOX), ((FIELD - width) // 2, (FIELD - height) // 2))
    return np.asarray(field) > 127


def thin(bitmaps: "np.ndarray") -> "np.ndarray":
    """Return the middle lines of letters, one cell wide, (G, H, W) bool (Zhang and Suen, 1984)."""
    import numpy as np

    ink = bitmaps.astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for second_pass in (False, True):
            # Neighbours clockwise from above. The border of a field is always empty, so the wrap-around of roll is
            # harmless.
            ring = [np.roll(ink, step, (1, 2)) for step in _RING]
            count = sum(ring[1:], start=ring[0])
            turns = sum((1 - here) & after for here, after in zip(ring, [*ring[1:], ring[0]], strict=True))
            up, right, down, left = ring[::2]
            free = (
                (up & right & left) | (up & down & left) if second_pass else (up & right & down) | (right & down & left)
            )
            gone = (ink == 1) & (count >= 2) & (count <= 6) & (turns == 1) & (free == 0)
            ink[gone] = 0
            changed = changed or bool(gone.any())
    return ink.astype(bool)


@cache
def build_atlas() -> Atlas:
    """Draw all letters once per process (about 2 seconds, 35 MB).

    Raises:
        EnvironmentFailure: Matplotlib's fonts are missing.
    """
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    folder = font_folder()
    missing = [name for name in FONTS if not (folder / name).is_file()]
    if missing:
        raise EnvironmentFailure(
            f"{folder}: matplotlib's fonts are missing",
            expected=f"{len(FONTS)} TTF files",
            found=f"no {missing[0]}",
            next_step="pip install --force-reinstall matplotlib",
        )
    bitmaps = np.stack([letter_bitmap(folder / name, character) for name in FONTS for character in CHARACTERS])
    lines = thin(bitmaps)
    printed = [distance_transform_edt(letter) - distance_transform_edt(~letter) for letter in bitmaps]
    pen = [-distance_transform_edt(~line) for line in lines]
    thickness = [np.quantile(field[line], 0.25) for field, line in zip(printed, lines, strict=True)]
    return Atlas(
        fields=np.stack([*printed, *pen]).astype(np.float32),
        thickness=np.array([*thickness, *[0.0] * len(pen)], dtype=np.float32),
        points=np.stack([_points_of(letter) for letter in bitmaps] * 2),
        characters=np.tile(np.arange(len(CHARACTERS)), 2 * len(FONTS)),
    )


def _points_of(letter: "np.ndarray", count: int = 64) -> "np.ndarray":
    """Return points that span a letter under any slant and rotation, (count, 2) float32, from (64, 64) bool."""
    import numpy as np

    rows, columns = np.nonzero(letter)
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    outermost = np.argmax(np.outer(np.cos(angles), columns) + np.outer(np.sin(angles), rows), axis=1)
    return np.stack([columns[outermost], rows[outermost]], axis=1).astype(np.float32) - (FIELD - 1) / 2


@dataclass(frozen=True)
class Variation:
    """Variation of glyphs; a pair is the range of a uniform distribution."""

    turn: float = 12.0  # degrees, to both sides
    slant: tuple[float, float] = (-0.2, 0.35)  # shift to the right for each unit of height
    height: tuple[float, float] = (29.0, 34.0)  # pixels of 32; larger values crop the letter
    breadth: float = 0.64  # target ratio of width to height; letters that have it in print keep it
    evenness: float = (
        0.5  # how far letters are stretched to the target, 0 none, 1 fully; slim letters get thick strokes
    )
    widen: float = 0.2  # standard deviation of the logarithm of the width factor
    shift: float = 1.0  # pixels, standard deviation
    balance: float = 3.0  # pixels, standard deviation of the middle's shift against the edges, as in small loops
    mesh: float = 1.6  # pixels, standard deviation of each of the mesh's 4 x 4 knots
    weight: tuple[float, float] = (0.0, 1.2)  # printed letters: offset of the edge, in units of the stroke's thickness
    nib: tuple[float, float] = (2.5, 6.0)  # pen letters: half the stroke width, in cells
    contrast: tuple[float, float] = (0.8, 1.0)  # brightness of the brightest stroke
    noise: float = 0.03  # standard deviation in the 8 x 8 counts; 1 is the range from black to white


def render(atlas: Atlas, entries: "np.ndarray", rng: "np.random.Generator", variation: Variation) -> "np.ndarray":
    """Draw letters of the atlas with individual variation, (N,) entries → (N, 32, 32) uint8, light on black."""
    import numpy as np

    # Small chunks fit in the processor's cache, which is several times faster.
    pieces = np.array_split(entries, max(1, len(entries) // 256))
    return np.concatenate([_render(atlas, piece, rng, variation) for piece in pieces])


def _render(atlas: Atlas, entries: "np.ndarray", rng: "np.random.Generator", variation: Variation) -> "np.ndarray":
    import numpy as np

    number = len(entries)
    places = _field_positions(atlas.points[entries], rng, variation)
    depth = _sample(atlas.fields, entries, places)
    thickness = atlas.thickness[entries]
    printed = -thickness * rng.uniform(*variation.weight, number)
    pen = -rng.uniform(*variation.nib, number)
    level = np.where(thickness > 0, printed, pen)
    ink = depth > level[:, None, None]
    counts = ink.reshape(number, BLOCKS, SIZE // BLOCKS, BLOCKS, SIZE // BLOCKS).mean(axis=(2, 4))
    counts *= rng.uniform(*variation.contrast, (number, 1, 1))
    counts += rng.normal(0, variation.noise, counts.shape) * (counts > 0)
    enlarge = _resize_matrix(BLOCKS, SIZE)
    return np.rint((enlarge @ counts.clip(0, 1) @ enlarge.T).clip(0, 1) * 255).astype(np.uint8)


def _field_positions(points: "np.ndarray", rng: "np.random.Generator", variation: Variation) -> "np.ndarray":
    """Return the field position of each pixel, (N, 32, 32, 2) float32, (x, y) in cells, from (N, P, 2) points."""
    import numpy as np

    number = len(points)
    turn = np.radians(rng.uniform(-variation.turn, variation.turn, number))
    cos, sin, slant = np.cos(turn), np.sin(turn), rng.uniform(*variation.slant, number)
    # Slant, then rotate; y points down, so a slant to the right is negative.
    linear = np.stack([cos, -sin - slant * cos, sin, cos - slant * sin], axis=1).reshape(number, 2, 2)
    reach = np.einsum("nij,npj->npi", linear, points)
    low, high = reach.min(axis=1), reach.max(axis=1)
    width, height = (high - low + 1).T
    tall = rng.uniform(*variation.height, number) / height
    jitter = np.exp(rng.normal(0, variation.widen, number))
    wide = tall * jitter * (variation.breadth * height / width) ** variation.evenness
    wide = np.minimum(wide, SIZE / width)
    scale = np.stack([wide, tall], axis=1)
    inverse = np.linalg.inv(scale[:, :, None] * linear)
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1) - (SIZE - 1) / 2
    mesh = _resize_matrix(4, SIZE)
    bend = np.einsum("ya,nabk,xb->nyxk", mesh, rng.normal(0, variation.mesh, (number, 4, 4, 2)), mesh, optimize=True)
    arch = np.cos(grid * (np.pi / SIZE))  # 1 in the middle, 0 at the edges
    bend += arch * rng.normal(0, variation.balance, (number, 1, 1, 2)) * (0.6, 1)
    bend += rng.normal(0, variation.shift, (number, 1, 1, 2)) * (1, 0.5)
    centred = grid + bend + (scale * (low + high) / 2)[:, None, None]
    flat = centred.reshape(number, -1, 2) @ inverse.transpose(0, 2, 1)
    return (flat.reshape(number, SIZE, SIZE, 2) + (FIELD - 1) / 2).astype(np.float32)


def _sample(fields: "np.ndarray", entries: "np.ndarray", places: "np.ndarray") -> "np.ndarray":
    """Interpolate fields bilinearly at (N, 32, 32, 2) positions → (N, 32, 32); clamps at the border."""
    import numpy as np

    places = places.clip(0, FIELD - 1.001)
    corner = places.astype(np.int64)
    x, y = np.moveaxis(places - corner, -1, 0)
    first = entries[:, None, None] * FIELD**2 + corner[..., 1] * FIELD + corner[..., 0]
    flat = fields.reshape(-1)
    above = flat[first] * (1 - x) + flat[first + 1] * x
    below = flat[first + FIELD] * (1 - x) + flat[first + FIELD + 1] * x
    return above * (1 - y) + below * y


@cache
def _resize_matrix(small: int, large: int) -> "np.ndarray":
    """Return the matrix (large, small) that Pillow's bicubic resizing multiplies by from each side."""
    import numpy as np
    from PIL import Image

    one = Image.fromarray(np.eye(small, dtype=np.float32))
    return np.asarray(one.resize((small, large), Image.Resampling.BICUBIC))
