"""What the demo's bases learn from: batches of captioned pictures, drawn afresh in each epoch."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from tools.demo_data import glyphs, icons
from tools.demo_data.settings import BaseSettings

if TYPE_CHECKING:
    import numpy as np
    import torch


class Told(NamedTuple):
    """What the captions of a batch say of its pictures, in one respect."""

    targets: "np.ndarray"
    """(B,) int64: each picture's caption."""
    captions: list[str]
    """K texts, all different in meaning; some may have no picture."""


class Batch(NamedTuple):
    """Pictures, and what is said of them."""

    images: "np.ndarray"
    """(B, S, S) uint8, grey, or (B, S, S, 3) uint8, RGB; in [0, 255]."""
    told: list[Told]
    """In several respects, each for itself: a caption is no rival of one that says something else."""


@dataclass(frozen=True)
class Lessons:
    """A subject: its batches, and how its pictures and captions become inputs."""

    size: int
    """Side of the square images, in pixels."""
    context: int
    """Tokens of a caption at the most, those of its beginning and end included."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float
    """What cosines are multiplied by at first; it is learned."""
    resize: str
    """How open_clip brings other images to the size: `shortest` or `squash`."""
    texts: Callable[[], list[str]]
    """Captions in which every word of the subject occurs."""
    batches: Callable[[BaseSettings, int], Iterator[Batch]]
    """One epoch of fresh pictures, from the settings and the epoch's number."""

    def to_input(self, images: "np.ndarray") -> "torch.Tensor":
        """Images as in `Batch` -> (B, 3, S, S) float32, normalised."""
        import torch

        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        pixels = torch.from_numpy(images)
        channels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        return (channels.float() / 255 - mean) / std


def _glyph_texts() -> list[str]:
    return [caption for character in glyphs.CHARACTERS for caption in glyphs.captions_of(character)]


def _glyph_batches(settings: BaseSettings, epoch: int) -> Iterator[Batch]:
    """Glyphs, with one caption for each of the characters."""
    import numpy as np

    rng = np.random.default_rng([settings.seed, epoch])
    atlas = glyphs.build_atlas()
    entries = draw_entries(atlas, rng, settings)
    choices = [glyphs.captions_of(character) for character in glyphs.CHARACTERS]
    for piece in np.array_split(entries, math.ceil(len(entries) / settings.batch_size)):
        images = glyphs.render(atlas, piece, rng, glyphs.Hand())
        captions = [own[int(rng.integers(len(own)))] for own in choices]
        yield Batch(images, [Told(atlas.characters[piece], captions)])


def draw_entries(atlas: glyphs.Atlas, rng: "np.random.Generator", settings: BaseSettings) -> "np.ndarray":
    """Which letters of the atlas one epoch shows, in order: (glyphs,) int64."""
    import numpy as np

    digits, pen = atlas.characters < len(glyphs.DIGITS), atlas.thickness == 0
    chance = np.zeros(len(digits))
    for kind, kind_share in ((digits, settings.digit_share), (~digits, 1 - settings.digit_share)):
        for hand, hand_share in ((pen, settings.pen_share), (~pen, 1 - settings.pen_share)):
            chance[kind & hand] = kind_share * hand_share / (kind & hand).sum()
    return rng.choice(len(chance), settings.glyphs, p=chance)


def _icon_batches(settings: BaseSettings, epoch: int) -> Iterator[Batch]:
    """Icons, told of in several respects.

    The masks of the first epoch have one colour, and all colours from the middle on: where all came at once, what a
    mask is was often not learned at all.
    """
    import numpy as np

    rng = np.random.default_rng([settings.seed, epoch])
    variety = min(1.0, 2 * epoch / settings.epochs)
    for piece in np.array_split(np.arange(settings.icons), math.ceil(settings.icons / settings.batch_size)):
        shown = [icons.draw_icon(rng) for _ in piece]
        images = np.stack([np.asarray(icons.render(icon, rng, variety)) for icon in shown])
        yield Batch(images, [_told(shown, names, rng) for names in icons.draw_respects(rng)])


def _told(shown: list[icons.Icon], names: tuple[str, ...], rng: "np.random.Generator") -> Told:
    """A caption for each combination of the attributes `names`; where they are neither one nor the factors, for each
    that is shown."""
    import numpy as np

    own = [tuple(getattr(icon, name) for name in names) for icon in shown]
    every = product(*(icons.LEVELS[name] for name in names))
    combinations = list(every if len(names) == 1 or names == icons.FACTORS else dict.fromkeys(own))
    numbers = {values: number for number, values in enumerate(combinations)}
    captions = [icons.caption(dict(zip(names, values, strict=True)), rng) for values in combinations]
    return Told(np.array([numbers[values] for values in own]), captions)


LESSONS = {
    # Black stays zero: augmentations fill what they uncover with the mean. The scale is open_clip's own.
    "digits": Lessons(glyphs.SIZE, 16, (0.0,) * 3, (0.45,) * 3, 1 / 0.07, "shortest", _glyph_texts, _glyph_batches),
    # With open_clip's scale the captions of few values become one and the same before the images tell them apart,
    # and from then on nothing is learned.
    "faces": Lessons(icons.SIZE, 26, (0.5,) * 3, (0.27,) * 3, 3.0, "squash", icons.all_texts, _icon_batches),
}
"""Subject → what its base learns from."""
