"""Random changes of training images: a slightly random crop, then RandAugment where it is asked for."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.errors import UsageError
from soups.preprocessing import Preprocessing
from soups.runtime import seeded_globals

if TYPE_CHECKING:
    from PIL import Image

_ATTEMPTS = 10


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image, decided by a seed alone; the same in each process.

    First the random resized crop of open_clip's training transform (Szegedy et al., arXiv:1409.4842, with the scale
    narrowed to 0.9 … 1): position and shape are drawn as torchvision's `RandomResizedCrop.get_params` does, which
    itself draws from torch's global generator and takes 39 µs instead of 3; cutting and resizing are Pillow's, equal to
    torchvision's `resized_crop`. Then timm's RandAugment (Cubuk et al., arXiv:1909.13719), with one deviation: its
    posterize keeps at least one bit.

    Attributes:
        size: side of the result, in pixels.
        interpolation: of the crop's resizing, by Pillow's name in small letters.
        rand_augment: timm's string, such as `rand-m9-n2` (magnitude 0 to 10, larger counts as 10; n operations), or
            None. `check_rand_augment` tells whether it is one.
        scale: least and greatest part of the area that a crop keeps.
        ratio: least and greatest width / height of a crop.
        fill: colour of what a rotation or translation uncovers, RGB in [0, 255].
    """

    size: int
    interpolation: str = "bicubic"
    rand_augment: str | None = None
    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    fill: tuple[int, int, int] = field(default=(124, 116, 104))

    @classmethod
    def of(cls, preprocessing: Preprocessing, rand_augment: str | None = None) -> "Augmentation":
        """The augmentation that fits a model's preprocessing: its size, filter and mean colour."""
        red, green, blue = (round(255 * mean) for mean in preprocessing.mean)
        return cls(preprocessing.size, preprocessing.interpolation, rand_augment, fill=(red, green, blue))

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """
        Args:
            image: (S, S', 3) uint8, RGB; not changed.
            seed: decides everything; equal seeds give equal pixels.

        Returns:
            (size, size, 3) uint8, its own memory.
        """
        return self.batch([image], [seed])[0]

    def batch(self, images: Iterable[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """B images, each as by itself with its own seed: (B, size, size, 3) uint8."""
        changed = np.empty((len(seeds), self.size, self.size, 3), dtype=np.uint8)
        # Keeping the global generators' state takes longer than an augmentation, so it is done once.
        with seeded_globals(0) if self.rand_augment is not None else nullcontext():
            for place, (image, seed) in enumerate(zip(images, seeds, strict=True)):
                pixels = self._changed(image, random.Random(seed)).tobytes()
                changed[place] = np.frombuffer(pixels, dtype=np.uint8).reshape(self.size, self.size, 3)
        return changed

    def _changed(self, image: np.ndarray, draws: random.Random) -> "Image.Image":
        from PIL import Image

        picture = Image.fromarray(image)
        left, top, width, height = crop_box(picture.width, picture.height, self.scale, self.ratio, draws)
        filter_ = Image.Resampling[self.interpolation.upper()]
        picture = picture.crop((left, top, left + width, top + height)).resize((self.size, self.size), filter_)
        if self.rand_augment is None:
            return picture
        random.seed(draws.getrandbits(63))
        np.random.seed(draws.getrandbits(32))  # noqa: NPY002 -- timm draws from the global generators.
        return self._operations(picture)

    @cached_property
    def _operations(self) -> "Callable[[Image.Image], Image.Image]":
        return _rand_augment(self.rand_augment or "", self.size, self.fill)

    def __getstate__(self) -> dict[str, Any]:
        # The operations are built anew in each process.
        return {name: value for name, value in self.__dict__.items() if name != "_operations"}


def crop_box(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], draws: random.Random
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random crop, distributed as torchvision's `RandomResizedCrop.get_params`.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        scale: range of the part of the area that is kept.
        ratio: range of width / height; drawn uniformly in its logarithm.
        draws: where chance comes from.
    """
    shape = (math.log(ratio[0]), math.log(ratio[1]))
    for _ in range(_ATTEMPTS):
        area, aspect = width * height * draws.uniform(*scale), math.exp(draws.uniform(*shape))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(draws.random() * (width - across + 1)), int(draws.random() * (height - down + 1))
            return left, top, across, down
    across, down = width, height
    if width / height < ratio[0]:
        down = round(width / ratio[0])
    elif width / height > ratio[1]:
        across = round(height * ratio[1])
    return (width - across) // 2, (height - down) // 2, across, down


def check_rand_augment(text: str) -> None:
    """Refuse what timm would not take as a RandAugment string.

    Raises:
        UsageError: with timm's reason.
    """
    _rand_augment(text, 224, (0, 0, 0))


def _rand_augment(text: str, size: int, fill: tuple[int, int, int]) -> "Callable[[Image.Image], Image.Image]":
    from timm.data.auto_augment import rand_augment_transform

    # As timm's own `create_transform` sets them.
    parameters = {"translate_const": int(size * 0.45), "img_mean": fill}
    try:
        augment = rand_augment_transform(text, parameters)
    except (AssertionError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise UsageError(
            f"not a RandAugment string: {text!r}",
            expected="such as rand-m9-n2 (magnitude 9, two operations)",
            found=str(error),
        ) from error
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.level_fn = partial(_at_least_one_bit, operation.level_fn)
    return augment


def _at_least_one_bit(
    bits_of: "Callable[[float, dict[str, Any]], tuple[int]]", magnitude: float, parameters: dict[str, Any]
) -> tuple[int]:
    """timm's posterize keeps zero bits at some magnitudes: a black image before Pillow 13, an error since."""
    return (max(1, *bits_of(magnitude, parameters)),)
