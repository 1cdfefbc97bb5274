"""Training batches of the demos' start models: captioned pictures, generated anew in each epoch."""

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


class CaptionSet(NamedTuple):
    """One caption set of a batch: its captions describe the pictures by the same attributes."""

    targets: "np.ndarray"
    """(B,) int64, the caption of each picture."""
    captions: list[str]
    """K texts with different meanings; some may have no picture."""


class Batch(NamedTuple):
    """Pictures with their caption sets."""

    images: "np.ndarray"
    """(B, S, S) uint8, grey, or (B, S, S, 3) uint8, RGB; in [0, 255]."""
    caption_sets: list[CaptionSet]
    """Caption sets with a separate loss each: captions of different sets are not negatives of each other."""


@dataclass(frozen=True)
class Subject:
    """A subject's batches and preprocessing."""

    size: int
    """Side of the square images, in pixels."""
    context: int
    """Maximum tokens of a caption, including those of its beginning and end."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float
    """Initial factor of the cosines; it is learned."""
    resize: str
    """How open_clip resizes other images: `shortest` or `squash`."""
    texts: Callable[[], list[str]]
    """Returns captions that together contain every word of the subject."""
    batches: Callable[[BaseSettings, int], Iterator[Batch]]
    """Yields one epoch of new pictures, given the settings and the epoch's number."""

    def to_input(self, images: "np.ndarray") -> "torch.Tensor":
        """Return images as in `Batch`, as (B, 3, S, S) float32, normalised."""
        import torch

        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        pixels = torch.from_numpy(images)
        channels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        return (channels.float() / 255 - mean) / std


def _glyph_texts() -> list[str]:
    return [caption for character in glyphs.CHARACTERS for caption in glyphs.captions_of(character)]


def _glyph_batches(settings: BaseSettings, epoch: int) -> Iterator[Batch]:
    """Yield batches of glyphs, with one caption for each of the characters."""
    import numpy as np

    rng = np.random.default_rng([settings.seed, epoch])
    atlas = glyphs.build_atlas()
    entries = draw_entries(atlas, rng, settings)
    choices = [glyphs.captions_of(character) for character in glyphs.CHARACTERS]
    for chunk in np.array_split(entries, math.ceil(len(entries) / settings.batch_size)):
        images = glyphs.render(atlas, chunk, rng, glyphs.Variation())
        captions = [shown_values[int(rng.integers(len(shown_values)))] for shown_values in choices]
        yield Batch(images, [CaptionSet(atlas.characters[chunk], captions)])


def draw_entries(atlas: glyphs.Atlas, rng: "np.random.Generator", settings: BaseSettings) -> "np.ndarray":
    """Return the atlas entries of one epoch, in order, (glyphs,) int64."""
    import numpy as np

    digits, pen = atlas.characters < len(glyphs.DIGITS), atlas.thickness == 0
    probability = np.zeros(len(digits))
    for kind, kind_share in ((digits, settings.digit_share), (~digits, 1 - settings.digit_share)):
        for hand, hand_share in ((pen, settings.pen_share), (~pen, 1 - settings.pen_share)):
            probability[kind & hand] = kind_share * hand_share / (kind & hand).sum()
    return rng.choice(len(probability), settings.glyphs, p=probability)


def _icon_batches(settings: BaseSettings, epoch: int) -> Iterator[Batch]:
    """Yield batches of icons with several caption sets.

    The masks of the first epoch have one colour; all colours occur from the middle epoch on. With all colours from the
    start, masks were often not learned at all.
    """
    import numpy as np

    rng = np.random.default_rng([settings.seed, epoch])
    variety = min(1.0, 2 * epoch / settings.epochs)
    for chunk in np.array_split(np.arange(settings.icons), math.ceil(settings.icons / settings.batch_size)):
        drawn_icons = [icons.draw_icon(rng) for _ in chunk]
        images = np.stack([np.asarray(icons.render(icon, rng, variety)) for icon in drawn_icons])
        yield Batch(images, [_caption_set(drawn_icons, names, rng) for names in icons.draw_attribute_sets(rng)])


def _caption_set(drawn_icons: list[icons.Icon], names: tuple[str, ...], rng: "np.random.Generator") -> CaptionSet:
    """Return a caption set for the attributes `names`.

    It has a caption for each combination of values if `names` is one attribute or the factors, else for each
    combination shown.
    """
    import numpy as np

    shown_values = [tuple(getattr(icon, name) for name in names) for icon in drawn_icons]
    all_combinations = product(*(icons.LEVELS[name] for name in names))
    combinations = list(all_combinations if len(names) == 1 or names == icons.FACTORS else dict.fromkeys(shown_values))
    index_of = {values: number for number, values in enumerate(combinations)}
    captions = [icons.caption(dict(zip(names, values, strict=True)), rng) for values in combinations]
    return CaptionSet(np.array([index_of[values] for values in shown_values]), captions)


SUBJECTS = {
    # Black stays zero, because augmentations fill uncovered areas with the mean. The scale is open_clip's.
    "digits": Subject(glyphs.SIZE, 16, (0.0,) * 3, (0.45,) * 3, 1 / 0.07, "shortest", _glyph_texts, _glyph_batches),
    # With open_clip's scale the captions of few values become equal before the images separate them, and nothing is
    # learned from then on.
    "faces": Subject(icons.SIZE, 26, (0.5,) * 3, (0.27,) * 3, 3.0, "squash", icons.all_texts, _icon_batches),
}
"""Subject → training batches of its start model."""
