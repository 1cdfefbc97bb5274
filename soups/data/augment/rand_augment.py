"""timm's RandAugment as an augmentation step."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from soups.core.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_RAND_AUGMENT = "rand-m9-n2"


@dataclass(frozen=True)
class RandAugment:
    """timm's RandAugment (Cubuk et al., arXiv:1909.13719) with one deviation: posterize keeps at least one bit.

    Attributes:
        text: timm's string, such as `rand-m9-n2`: magnitude 0 to 10 (values above 10 count as 10), n operations.
        size: side of the images in pixels.
        fill: colour of areas that a rotation or translation uncovers, RGB in [0, 255].
    """

    text: str
    size: int
    fill: tuple[int, int, int] = (124, 116, 104)

    uses_global_rng: ClassVar[bool] = True
    """timm draws from the global generators of Python and NumPy."""

    def __call__(self, picture: "Image.Image", rng: random.Random) -> "Image.Image":
        """Return the augmented picture. Call it within `seeded_globals`, because it seeds the global generators."""
        random.seed(rng.getrandbits(63))
        np.random.seed(rng.getrandbits(32))  # noqa: NPY002
        return self.operations(picture)

    @cached_property
    def operations(self) -> "Callable[[Image.Image], Image.Image]":
        """The transform object of timm.

        Raises:
            UsageError: timm rejects the string; includes timm's reason.
        """
        from timm.data.auto_augment import rand_augment_transform

        # The values that timm's `create_transform` sets.
        parameters = {"translate_const": int(self.size * 0.45), "img_mean": self.fill}
        try:
            augment = rand_augment_transform(self.text, parameters)
        except (AssertionError, ValueError, KeyError, IndexError, NotImplementedError) as error:
            raise UsageError(
                f"not a RandAugment string: {self.text!r}",
                expected="such as rand-m9-n2 (magnitude 9, two operations)",
                found=str(error),
            ) from error
        for operation in augment.ops:
            if operation.name.startswith("Posterize"):
                operation.level_fn = partial(_at_least_one_bit, operation.level_fn)
        return augment

    def __getstate__(self) -> dict[str, Any]:
        # Each process builds the operations itself.
        return {name: value for name, value in self.__dict__.items() if name != "operations"}


def _at_least_one_bit(
    bits_of: "Callable[[float, dict[str, Any]], tuple[int]]", magnitude: float, parameters: dict[str, Any]
) -> tuple[int]:
    """Return at least one bit: timm's posterize keeps none at some magnitudes, an error since Pillow 13."""
    return (max(1, *bits_of(magnitude, parameters)),)
