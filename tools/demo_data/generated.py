"""Real against generated digits: scikit-learn's handwritten digits and samples from a density model of their writers.

The generator is scikit-learn's example "Kernel Density Estimation" (principal components of the digits, a Gaussian
kernel density with cross-validated bandwidth) with two changes. Every image is a kernel's centre once, so a generated
digit has the class and writer of its centre, and the counts equal those of the real digits. Generated pixels are whole
numbers from 0 to 16 like the real ones, so that no file property separates the two.

Each of the sets train, val and test has writers of its own and a generator fitted only on them.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from soups.files.atomic import write_text
from tools.demo_data.digits import WRITER_STARTS, enlarge, writer_of
from tools.demo_data.folders import DataSet
from tools.demo_data.settings import GeneratedDigitsSettings

if TYPE_CHECKING:
    import numpy as np

REAL, FAKE = "REAL", "FAKE"
SETS = ("train", "val", "test")
MARKER = "generated_digits.json"
RECIPE = 1  # Increase this when equal settings give different images.

TRUTH = "truth.csv"
"""File in test/ with image, target and group, for `validation.py --ground-truth`."""

_FILES = re.compile(r"(train|val|test)/(REAL/w\d{2}_\d{4}|FAKE/w\d{2}_\d{4}_by_(train|val|test))\.png|truth\.csv")
_EXAMPLES = "truth.csv and images named like REAL/w03_0412.png and FAKE/w03_0412_by_train.png"


def make_generated_digits(settings: GeneratedDigitsSettings) -> Path:
    """Make the folder of real and generated digits unless it exists.

    Layout: `<set>/REAL/w<writer>_<row>.png` and `<set>/FAKE/w<writer>_<row>_by_<set>.png` for the sets train, val and
    test, 8-bit grey PNG; the name of a generated image holds its centre and its generator. No writer is in two sets.
    `truth.csv` has the test images' classes and groups. Equal settings give equal files. The marker
    `generated_digits.json` is written last.

    Returns:
        The folder, `settings.location`.

    Raises:
        DataError: The folder exists and contains files that this function did not make.
        EnvironmentFailure: The disk is full, or the folder is not writable.
    """
    identity = {"recipe": RECIPE, "settings": settings.model_dump(mode="json", exclude={"location"})}
    data_set = DataSet(MARKER, identity, "*.png", _FILES, _EXAMPLES, tables=(TRUTH,))
    return data_set.make(settings.location, lambda folder: _write_images(folder, settings))


def writers_of_sets(settings: GeneratedDigitsSettings) -> dict[str, set[int]]:
    """Return set → writers, 0 … 12, drawn with the seed."""
    import numpy as np

    order = [int(writer) for writer in np.random.default_rng(settings.seed).permutation(len(WRITER_STARTS))]
    test, val = settings.test_writers, settings.val_writers
    return {"train": set(order[test + val :]), "val": set(order[test : test + val]), "test": set(order[:test])}


def _write_images(folder: Path, settings: GeneratedDigitsSettings) -> int:
    """Write all images below `folder`; returns their number."""
    import numpy as np
    from sklearn.datasets import load_digits

    table = load_digits()
    written: list[tuple[str, str, str]] = []
    writers = np.array([writer_of(row) for row in range(len(table.target))])
    for number, (name, own) in enumerate(writers_of_sets(settings).items()):
        rows = np.flatnonzero(np.isin(writers, sorted(own)))
        real, rng = table.images[rows], np.random.default_rng([settings.seed, number])
        fake = sample_like(real, writers[rows], settings.components, rng)
        for row, *images in zip(rows, real, fake, strict=True):
            stem = f"w{writers[row]:02d}_{row:04d}"
            for kind, ending, pixels in zip((REAL, FAKE), ("", f"_by_{name}"), images, strict=True):
                path = folder / name / kind / f"{stem}{ending}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                enlarge(pixels, settings.image_size).save(path)
                written.append((path.relative_to(folder).as_posix(), kind, stem.partition("_")[0]))
    truth = [",".join(row) for row in sorted(written) if row[0].startswith("test/")]
    write_text(folder / TRUTH, "\n".join(["image,target,group", *truth, ""]))
    return len(written)


def sample_like(
    images: "np.ndarray", writers: "np.ndarray", components: int, rng: "np.random.Generator"
) -> "np.ndarray":
    """Sample images from a kernel density of principal components, one around each fitted image.

    Args:
        images: (N, 8, 8) float, whole numbers in [0, 16].
        writers: (N,) writer names; the bandwidth maximises the likelihood of held-out writers.
        components: number of principal components.
        rng: random generator of the sample.

    Returns:
        (N, 8, 8) float, whole numbers in [0, 16].
    """
    from sklearn.decomposition import PCA

    flat = images.reshape(len(images), -1)
    space = PCA(n_components=components, svd_solver="full").fit(flat)
    centres = space.transform(flat)
    noise = bandwidth(centres, writers) * rng.standard_normal(centres.shape)
    return space.inverse_transform(centres + noise).clip(0, 16).round().reshape(images.shape)


def bandwidth(centres: "np.ndarray", writers: "np.ndarray") -> float:
    """Return the bandwidth, of 11 between 1 and 10, that maximises the likelihood of held-out writers.

    Args:
        centres: (N, D) centres of the kernels.
        writers: (N,) the writer of each centre.
    """
    import numpy as np
    from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
    from sklearn.neighbors import KernelDensity

    choices = {"bandwidth": np.logspace(0, 1, 11)}
    search = GridSearchCV(KernelDensity(), choices, cv=LeaveOneGroupOut(), refit=False)
    search.fit(centres, groups=writers)
    return float(search.best_params_["bandwidth"])
