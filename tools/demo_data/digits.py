"""Scikit-learn's handwritten digits as image files, split by writer, with shifted test sets.

The 1,797 images come from thirteen writers in consecutive blocks. A file name holds the writer and the row,
`w03_0412.png`, so `GROUP_PATTERN` extracts the group of a sample from it.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tools.demo_data.folders import DataSet
from tools.demo_data.settings import DigitsSettings

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WRITER_STARTS = (0, 130, 256, 386, 516, 646, 776, 905, 1029, 1157, 1287, 1415, 1667)
GROUP_PATTERN = r"(w\d+)_"
MARKER = "digits.json"
RECIPE = 1  # Increase this when equal settings give different images.

_FILES = re.compile(r"(.*/)?w\d{2}_\d{4}\.png")


def make_digits(settings: DigitsSettings) -> Path:
    """Make the folder of digits unless it exists.

    Layout: `train/<class>/w<writer>_<row>.png`, `test/<class>/…` and `shifts/<name>/<class>/…`, classes `zero` …
    `nine`, 8-bit grey PNG, light strokes on black. No writer is in both train and test; the shifts are modified test
    images. Equal settings give equal files. The marker `digits.json` is written last.

    Returns:
        The folder, `settings.location`.

    Raises:
        DataError: The folder exists and contains files that this function did not make.
        EnvironmentFailure: The disk is full, or the folder is not writable.
    """
    identity = {"recipe": RECIPE, "settings": settings.model_dump(mode="json", exclude={"location"})}
    data_set = DataSet(MARKER, identity, "*.png", _FILES, "images named like w03_0412.png")
    return data_set.make(settings.location, lambda folder: _write_images(folder, settings))


def writer_of(row: int) -> int:
    """Return the writer, 0 … 12, of a row of scikit-learn's table, 0 … 1796."""
    return bisect_right(WRITER_STARTS, row) - 1


def draw_test_writers(settings: DigitsSettings) -> set[int]:
    """Return the writers whose images go to test/, drawn with the seed."""
    import numpy as np

    order = np.random.default_rng(settings.seed).permutation(len(WRITER_STARTS))
    return {int(writer) for writer in order[: settings.test_writers]}


def _write_images(folder: Path, settings: DigitsSettings) -> int:
    """Write all images below `folder`; returns their number."""
    from sklearn.datasets import load_digits

    table, testers, count = load_digits(), draw_test_writers(settings), 0
    for row, (pixels, target) in enumerate(zip(table.images, table.target, strict=True)):
        writer, word = writer_of(row), WORDS[int(target)]
        image = enlarge(pixels, settings.image_size)
        versions = {"test" if writer in testers else "train": image}
        if writer in testers:
            versions |= shifted_versions(image, row, settings)
        for place, version in versions.items():
            path = folder / place / word / f"w{writer:02d}_{row:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            version.save(path)
            count += 1
    return count


def enlarge(pixels: "np.ndarray", size: int) -> "Image.Image":
    """Return scikit-learn's pixels, (8, 8) float in [0, 16], as a grey image of `size` pixels a side, bicubic."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def shifted_versions(image: "Image.Image", row: int, settings: DigitsSettings) -> dict[str, "Image.Image"]:
    """Return the shifted versions of one image, by folder name (`shifts/<name>`).

    The shifts follow ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261), with one severity each. The random
    generator depends only on (seed, shift, row), so an image does not depend on the other images.
    """
    makers: dict[str, Callable[..., Image.Image]] = {
        "rotate_left": lambda rng: _rotate(image, settings.rotation),
        "rotate_right": lambda rng: _rotate(image, -settings.rotation),
        "noise": lambda rng: _add_noise(image, settings.noise, rng),
        "blur": lambda rng: _blur(image, settings.blur),
        "translate": lambda rng: _translate(image, settings.translation, rng),
    }
    import numpy as np

    return {
        f"shifts/{name}": make(np.random.default_rng([settings.seed, number, row]))
        for number, (name, make) in enumerate(makers.items())
    }


def _rotate(image: "Image.Image", degrees: float) -> "Image.Image":
    from PIL import Image

    return image.rotate(degrees, Image.Resampling.BICUBIC)


def _add_noise(image: "Image.Image", deviation: float, rng: "np.random.Generator") -> "Image.Image":
    import numpy as np
    from PIL import Image

    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, 255 * deviation, size=(image.height, image.width))
    return Image.fromarray(np.rint(noisy.clip(0, 255)).astype(np.uint8))


def _blur(image: "Image.Image", radius: float) -> "Image.Image":
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(radius * image.width / 32))


def _translate(image: "Image.Image", distance: float, rng: "np.random.Generator") -> "Image.Image":
    from PIL import Image

    angle, pixels = rng.uniform(0, 2 * math.pi), distance * image.width / 32
    matrix = (1, 0, pixels * math.cos(angle), 0, 1, pixels * math.sin(angle))
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
