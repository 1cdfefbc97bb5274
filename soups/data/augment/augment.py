"""Random changes of training images: which kinds there are, and what each does to an image, decided by a seed alone."""

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import unknown_name
from soups.core.preprocessing import Preprocessing
from soups.data.augment.crops import Flip, RandomCrop
from soups.data.augment.rand_augment import RandAugment
from soups.data.augment.transforms import Transform, colour_jitter_and_noise
from soups.data.images.geometry import Geometry, evaluation_geometry, training_geometry
from soups.runtime.devices import seeded_globals

if TYPE_CHECKING:
    from PIL import Image

Step = Callable[["Image.Image", random.Random], "Image.Image"]
"""`step(picture, draws) -> picture`: all its chance comes from `draws`."""

FLIP = "flip"
"""What may be done to the copies of oversampled images besides the kinds in `AUGMENTATIONS`."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image, decided by a seed alone; the same in each process.

    Attributes:
        size: side of the result, in pixels.
        steps: one after the other; what they leave at another size is resized, whatever its aspect ratio.
        interpolation: of that resizing, by Pillow's name in small letters.
    """

    size: int
    steps: tuple[Step, ...]
    interpolation: str = "bicubic"

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """
        Args:
            image: (H, W, 3) uint8, RGB; not changed.
            seed: decides everything; equal seeds give equal pixels.

        Returns:
            (size, size, 3) uint8, its own memory.
        """
        return self.batch([image], [seed])[0]

    def batch(self, images: Iterable[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """B images, each as by itself with its own seed: (B, size, size, 3) uint8."""
        changed = np.empty((len(seeds), self.size, self.size, 3), dtype=np.uint8)
        globally = any(getattr(step, "uses_global_rng", False) for step in self.steps)
        # Keeping the global generators' state takes longer than an augmentation, so it is done once.
        with seeded_globals(0) if globally else nullcontext():
            for place, (image, seed) in enumerate(zip(images, seeds, strict=True)):
                pixels = self._changed(image, random.Random(seed)).tobytes()
                changed[place] = np.frombuffer(pixels, dtype=np.uint8).reshape(self.size, self.size, 3)
        return changed

    def _changed(self, image: np.ndarray, draws: random.Random) -> "Image.Image":
        from PIL import Image

        picture = Image.fromarray(image)
        for step in self.steps:
            picture = step(picture, draws)
        if picture.size != (self.size, self.size):
            picture = picture.resize((self.size, self.size), Image.Resampling[self.interpolation.upper()])
        return picture

    def prepend(self, step: Step) -> "Augmentation":
        """The same, with one step before all others."""
        return replace(self, steps=(step, *self.steps))


@dataclass(frozen=True)
class AugmentationKind:
    """A kind of augmentation."""

    steps: Callable[[Preprocessing], tuple[Step, ...]]
    """What it does, given how the model wants its images."""
    needs_margin: bool = False
    """Whether its images come a little larger than the model's input, so that crops have room."""
    cut: tuple[int, int] | None = None
    """Height and width of the middle of the image that alone is looked at, in training and ever after."""


def _random_crop(preprocessing: Preprocessing) -> tuple[Step, ...]:
    return (RandomCrop(preprocessing.size, preprocessing.interpolation),)


def _no_steps(preprocessing: Preprocessing) -> tuple[Step, ...]:
    return ()


AUGMENTATIONS: dict[str, AugmentationKind] = {
    "crop": AugmentationKind(_random_crop, needs_margin=True),
    "randaugment": AugmentationKind(
        _random_crop, needs_margin=True
    ),  # With a RandAugment by default; any other kind can have one as well.
    "base": AugmentationKind(_no_steps),
    "none": AugmentationKind(_no_steps),  # And never a RandAugment.
    "custom": AugmentationKind(colour_jitter_and_noise, cut=(320, 256)),
}


def find_augmentation(name: str) -> AugmentationKind:
    """A kind by its name, or the one that a transform of albumentations makes.

    Args:
        name: a key of `AUGMENTATIONS`, or the content of a transform's file (see `transforms.read_transform`).

    Raises:
        UsageError: there is no such kind.
    """
    if name.startswith("{"):
        return AugmentationKind(lambda _: (Transform(name),), needs_margin=True)
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, [*AUGMENTATIONS, "a YAML file of albumentations"])
    return AUGMENTATIONS[name]


def build_augmentation(
    preprocessing: Preprocessing, name: str = "crop", rand_augment: str | None = None
) -> Augmentation:
    """What is done to a model's training images: a kind, then RandAugment where a string says so."""
    steps = find_augmentation(name).steps(preprocessing)
    if rand_augment is not None:
        red, green, blue = (round(255 * mean) for mean in preprocessing.mean)
        steps += (RandAugment(rand_augment, preprocessing.size, (red, green, blue)),)
    return Augmentation(preprocessing.size, steps, preprocessing.interpolation)


def copies_augmentation(
    preprocessing: Preprocessing, own: Augmentation, name: str, rand_augment: str | None
) -> Augmentation:
    """What is done to the copies of oversampled images: the same as to others, the same mirrored, or another kind."""
    if name == "same":
        return own
    return own.prepend(Flip()) if name == FLIP else build_augmentation(preprocessing, name, rand_augment)


def augmented_geometry(preprocessing: Preprocessing, name: str, cache_size: int | None = None) -> Geometry:
    """How images come to an augmentation: as the model evaluates them, or with room around."""
    return (
        training_geometry(preprocessing, cache_size)
        if find_augmentation(name).needs_margin
        else evaluation_geometry(preprocessing)
    )


def augmented_preprocessing(preprocessing: Preprocessing, name: str) -> Preprocessing:
    """How a model that was trained with a kind of augmentation wants its images ever after."""
    cut = find_augmentation(name).cut
    return preprocessing if cut is None else preprocessing.model_copy(update={"cut": cut, "resize": "squash"})
