"""Training augmentation: the registry of kinds, and the pipeline of steps that a seed alone determines."""

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
"""`step(picture, rng) -> picture`: all randomness comes from `rng`."""

FLIP = "flip"
"""Augmentation that is available for copies of oversampled images only: the others mirrored."""


@dataclass(frozen=True)
class Augmentation:
    """A sequence of random steps that a seed determines, equal in all processes.

    Attributes:
        size: side of the result in pixels.
        steps: applied in order. A result of another size is then resized, ignoring its aspect ratio.
        interpolation: Pillow's name of the filter for that resizing, in lower case.
    """

    size: int
    steps: tuple[Step, ...]
    interpolation: str = "bicubic"

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Augment one image.

        Args:
            image: (H, W, 3) uint8, RGB; not changed.
            seed: equal seeds give equal pixels.

        Returns:
            (size, size, 3) uint8, a new array.
        """
        return self.batch([image], [seed])[0]

    def batch(self, images: Iterable[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """Augment B images, each with its own seed and independently of the others: (B, size, size, 3) uint8."""
        augmented = np.empty((len(seeds), self.size, self.size, 3), dtype=np.uint8)
        uses_globals = any(getattr(step, "uses_global_rng", False) for step in self.steps)
        # Once per batch, because saving the state of the global generators takes longer than an augmentation.
        with seeded_globals(0) if uses_globals else nullcontext():
            for position, (image, seed) in enumerate(zip(images, seeds, strict=True)):
                pixels = self._apply_steps(image, random.Random(seed)).tobytes()
                augmented[position] = np.frombuffer(pixels, dtype=np.uint8).reshape(self.size, self.size, 3)
        return augmented

    def _apply_steps(self, image: np.ndarray, rng: random.Random) -> "Image.Image":
        from PIL import Image

        picture = Image.fromarray(image)
        for step in self.steps:
            picture = step(picture, rng)
        if picture.size != (self.size, self.size):
            picture = picture.resize((self.size, self.size), Image.Resampling[self.interpolation.upper()])
        return picture


@dataclass(frozen=True)
class AugmentationKind:
    """An entry of `AUGMENTATIONS`."""

    steps: Callable[[Preprocessing], tuple[Step, ...]] = lambda preprocessing: ()
    """Returns the steps for a model's preprocessing."""
    needs_margin: bool = False
    """Whether cached images must be larger than the model's input, to leave a margin for random crops."""
    cut: tuple[int, int] | None = None
    """Height and width in pixels of a centre cut of every image, in training and in all later use of the model."""


def _random_crop(preprocessing: Preprocessing) -> tuple[Step, ...]:
    return (RandomCrop(preprocessing.size, preprocessing.interpolation),)


AUGMENTATIONS: dict[str, AugmentationKind] = {
    "crop": AugmentationKind(_random_crop, needs_margin=True),
    # Has a RandAugment by default; every other kind except `none` may have one.
    "randaugment": AugmentationKind(_random_crop, needs_margin=True),
    "base": AugmentationKind(),
    "none": AugmentationKind(),  # Never with a RandAugment.
    "custom": AugmentationKind(colour_jitter_and_noise, cut=(320, 256)),
}


def find_augmentation(name: str) -> AugmentationKind:
    """Return the kind of augmentation with a name, or one that applies an albumentations transform.

    Args:
        name: a key of `AUGMENTATIONS`, or a transform as compact JSON (see `transforms.read_transform`).

    Raises:
        UsageError: the name is unknown.
    """
    if name.startswith("{"):
        return AugmentationKind(lambda _: (Transform(name),), needs_margin=True)
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, [*AUGMENTATIONS, "a YAML file of albumentations"])
    return AUGMENTATIONS[name]


def build_augmentation(
    preprocessing: Preprocessing, name: str = "crop", rand_augment: str | None = None
) -> Augmentation:
    """Build the training augmentation of a model.

    Args:
        preprocessing: the model's preprocessing.
        name: see `find_augmentation`.
        rand_augment: timm's RandAugment string, applied as the last step; None: no RandAugment.
    """
    steps = find_augmentation(name).steps(preprocessing)
    if rand_augment is not None:
        red, green, blue = (round(255 * mean) for mean in preprocessing.mean)
        steps += (RandAugment(rand_augment, preprocessing.size, (red, green, blue)),)
    return Augmentation(preprocessing.size, steps, preprocessing.interpolation)


def copies_augmentation(
    preprocessing: Preprocessing, own: Augmentation, name: str, rand_augment: str | None
) -> Augmentation:
    """Build the augmentation of copies of oversampled images.

    Args:
        preprocessing: the model's preprocessing.
        own: augmentation of all other images.
        name: `same` for `own`, `flip` for `own` after mirroring, or see `find_augmentation`.
        rand_augment: see `build_augmentation`.
    """
    if name == "same":
        return own
    if name == FLIP:
        return replace(own, steps=(Flip(), *own.steps))
    return build_augmentation(preprocessing, name, rand_augment)


def augmented_geometry(preprocessing: Preprocessing, name: str, cache_size: int | None = None) -> Geometry:
    """Return the geometry of images before augmentation: with a margin for crops, or that of evaluation."""
    if find_augmentation(name).needs_margin:
        return training_geometry(preprocessing, cache_size)
    return evaluation_geometry(preprocessing)


def augmented_preprocessing(preprocessing: Preprocessing, name: str) -> Preprocessing:
    """Return the preprocessing of a model after training with an augmentation, including the augmentation's cut."""
    cut = find_augmentation(name).cut
    return preprocessing if cut is None else preprocessing.model_copy(update={"cut": cut, "resize": "squash"})
