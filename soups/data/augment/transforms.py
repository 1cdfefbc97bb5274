"""Transforms of albumentations as augmentation steps: colour jitter with noise, and transforms from files."""

import json
import os
import random
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UsageError, one_line
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import compact_json

if TYPE_CHECKING:
    from PIL import Image

TRANSFORM_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Transform:
    """An albumentations transform.

    Attributes:
        content: result of `albumentations.to_dict` as compact JSON.
    """

    content: str

    def __call__(self, picture: "Image.Image", rng: random.Random) -> "Image.Image":
        """Return the augmented picture; the transform determines its size.

        Raises:
            UsageError: the transform fails on a picture of this size, or its result is not a picture.
        """
        from PIL import Image

        transform = self.built
        transform.set_random_seed(rng.getrandbits(32))
        try:
            pixels = transform(image=np.array(picture))["image"]
        except Exception as error:  # Transforms raise many types of exception.
            raise UsageError(
                "--augmentation: the transform fails on training images",
                expected=f"a transform of images of {picture.width} × {picture.height} pixels",
                found=one_line(error),
                next_step="change the transform, or the size of the images with --cache-size",
            ) from error
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
            raise UsageError(
                "--augmentation: the transform does not return a picture",
                expected="(height, width, 3) uint8",
                found=f"{tuple(pixels.shape)} {pixels.dtype}",
                next_step="remove Normalize and ToTensorV2: images are normalised for the model afterwards",
            )
        return Image.fromarray(pixels)

    @cached_property
    def built(self) -> Any:
        """The albumentations object."""
        return _albumentations().from_dict(json.loads(self.content))

    def __getstate__(self) -> dict[str, Any]:
        # Each process builds the transform itself.
        return {"content": self.content}


def colour_jitter_and_noise(preprocessing: Preprocessing) -> tuple[Transform, ...]:
    """Return a step of colour jitter by up to 10% and Gaussian noise of standard deviation 1 after normalisation.

    The noise is added to pixels and clipped to [0, 255]. The original code added it after normalisation.
    """
    albumentations = _albumentations()
    deviation = float(np.mean(preprocessing.std))
    transform = albumentations.Compose(
        [
            albumentations.ColorJitter(
                brightness=(0.9, 1.1), contrast=(0.9, 1.1), saturation=(0.9, 1.1), hue=(-0.1, 0.1), p=1.0
            ),
            albumentations.GaussNoise(std_range=(min(deviation, 1.0),) * 2, p=1.0),
        ]
    )
    return (Transform(compact_json(albumentations.to_dict(transform))),)


def read_transform(path: Path) -> str:
    """Read a transform from a YAML or JSON file in the format of `albumentations.save`, as compact JSON.

    Raises:
        UsageError: the file does not exist, cannot be parsed, or does not contain a transform.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML too.
    except FileNotFoundError as error:
        raise UsageError(f"--augmentation {path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"--augmentation {path}: not readable YAML", found=one_line(error)) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of unknown arguments.
            return compact_json(_albumentations().to_dict(_albumentations().from_dict(content)))
    except Exception as error:  # KeyError for an unknown transform, TypeError, pydantic's …
        raise UsageError(
            f"--augmentation {path}: not a transform of albumentations",
            expected='a file written by albumentations.save(transform, "FILE.yaml", data_format="yaml")',
            found=f"unknown transform {error}" if isinstance(error, KeyError) else one_line(error),
        ) from error


def _albumentations() -> Any:
    # Otherwise albumentations checks for a newer version over the network when it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # Worker processes already use all cores.
    return albumentations
