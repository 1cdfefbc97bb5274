"""albumentations' transforms as steps of an augmentation: a fixed one, and those of the user's own files."""

import json
import os
import random
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import compact_json

if TYPE_CHECKING:
    from PIL import Image

TRANSFORM_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Transform:
    """A transform of albumentations.

    Attributes:
        content: compact JSON of what `albumentations.to_dict` gives.
    """

    content: str

    def __call__(self, picture: "Image.Image", draws: random.Random) -> "Image.Image":
        """The changed picture, of whatever size the transform gives.

        Raises:
            UsageError: the transform does not take a picture of this size, or gives no picture.
        """
        from PIL import Image

        transform = self.built
        transform.set_random_seed(draws.getrandbits(32))
        try:
            pixels = transform(image=np.array(picture))["image"]
        except Exception as error:  # Every transform has exceptions of its own.
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(
                "--augmentation: the transform does not take the training images",
                expected=f"a transform of images of {picture.width} × {picture.height} pixels",
                found=reason,
                next_step="change it, or the images' size with --cache-size",
            ) from error
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
            raise UsageError(
                "--augmentation: the transform does not give a picture",
                expected="(height, width, 3) uint8",
                found=f"{tuple(pixels.shape)} {pixels.dtype}",
                next_step="leave Normalize and ToTensorV2 out: the model's own mean and deviation follow by themselves",
            )
        return Image.fromarray(pixels)

    @cached_property
    def built(self) -> Any:
        """The transform itself."""
        return _albumentations().from_dict(json.loads(self.content))

    def __getstate__(self) -> dict[str, Any]:
        # Built anew in each process.
        return {"content": self.content}


def colour_jitter_and_noise(preprocessing: Preprocessing) -> tuple[Transform, ...]:
    """Colours changed by up to a tenth, and Gaussian noise of one standard deviation of the normalised input.

    The noise is added to pixels, so black and white clip it; the original added it after normalising.
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
    """The content of a file that `albumentations.save` wrote, or somebody in its form, as compact JSON.

    Raises:
        UsageError: there is no such file, it holds no transform, or one that gives no picture.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML too.
    except FileNotFoundError as error:
        raise UsageError(f"--augmentation {path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"--augmentation {path}: not readable YAML", found=" ".join(str(error).split())) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # It only warns of an argument that it does not know.
            text = compact_json(_albumentations().to_dict(_albumentations().from_dict(content)))
    except Exception as error:  # KeyError for an unknown transform, TypeError, pydantic's …
        reason = f"no transform {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UsageError(
            f"--augmentation {path}: no transform of albumentations",
            expected='what albumentations.save(transform, "FILE.yaml", data_format="yaml") writes',
            found=reason[:300],
        ) from error
    return text


def _albumentations() -> Any:
    # It looks for a newer version of itself when it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # Each process has its share of the cores already.
    return albumentations
