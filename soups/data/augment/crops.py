"""Slightly random crops: position and shape by chance, cut and resized by Pillow."""

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_ATTEMPTS = 10


@dataclass(frozen=True)
class RandomCrop:
    """The random resized crop of open_clip's training transform (Szegedy et al., arXiv:1409.4842).

    Position and shape are drawn as torchvision's `RandomResizedCrop.get_params` does, which itself draws from torch's
    global generator and takes 39 µs instead of 3; cutting and resizing are Pillow's, equal to torchvision's
    `resized_crop`.

    Attributes:
        size: side of the result, in pixels.
        interpolation: of the resizing, by Pillow's name in small letters.
        scale: least and greatest part of the area that a crop keeps (open_clip's, narrower than the paper's).
        ratio: least and greatest width / height of a crop.
    """

    size: int
    interpolation: str = "bicubic"
    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, picture: "Image.Image", draws: random.Random) -> "Image.Image":
        """A crop of the picture, `size` × `size`."""
        from PIL import Image

        left, top, width, height = crop_box(picture.width, picture.height, self.scale, self.ratio, draws)
        filter_ = Image.Resampling[self.interpolation.upper()]
        return picture.crop((left, top, left + width, top + height)).resize((self.size, self.size), filter_)


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged, always."""

    def __call__(self, picture: "Image.Image", draws: random.Random) -> "Image.Image":
        """The mirrored picture."""
        from PIL import Image

        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


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
