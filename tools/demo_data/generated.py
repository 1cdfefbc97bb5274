"""Real against generated: scikit-learn's handwritten digits, and digits sampled from a model of the same writers.

The generator is scikit-learn's own example ("Kernel Density Estimation": principal components of the digits, and a
Gaussian kernel density of them, its bandwidth cross-validated), with two changes. Every image is a kernel's centre
once, so a generated digit has the class and the writer of its centre, and there are as many of each as there are real
ones. And generated pixels are whole numbers from 0 to 16 as the real ones are, so that no format tells the two apart.

Each of the sets train, val and test has writers of its own, and a generator that was fitted on these alone.
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
RECIPE = 1  # Raise it when equal settings shall give other images.

TRUTH = "truth.csv"
"""Of test/: image, target and group, for `validation.py --ground-truth`."""

_FILES = re.compile(r"(train|val|test)/(REAL/w\d{2}_\d{4}|FAKE/w\d{2}_\d{4}_by_(train|val|test))\.png|truth\.csv")
_EXAMPLES = "truth.csv and images named like REAL/w03_0412.png and FAKE/w03_0412_by_train.png"


def make_generated_digits(settings: GeneratedDigitsSettings) -> Path:
    """Make the folder of real and generated digits, unless it is there already.

    Layout: `<set>/REAL/w<writer>_<row>.png` and `<set>/FAKE/w<writer>_<row>_by_<set>.png` for the sets train, val and
    test, 8-bit grey PNG; a generated image is named for its centre and for the generator. No writer is in two sets.
    `truth.csv` has the test images' classes and groups.
    Equal settings give equal files. The marker `generated_digits.json` is written last.

    Returns:
        The folder, `settings.location`.

    Raises:
        DataError: the folder exists and holds anything that this function did not make.
        EnvironmentFailure: the disk is full, or the folder may not be written.
    """
    identity = {"recipe": RECIPE, "settings": settings.model_dump(mode="json", exclude={"location"})}
    data_set = DataSet(MARKER, identity, "*.png", _FILES, _EXAMPLES, tables=(TRUTH,))
    return data_set.make(settings.location, lambda folder: _write_images(folder, settings))


def writers_of_sets(settings: GeneratedDigitsSettings) -> dict[str, set[int]]:
    """Set → its writers, 0 … 12, as the seed says."""
    import numpy as np

    order = [int(writer) for writer in np.random.default_rng(settings.seed).permutation(len(WRITER_STARTS))]
    test, val = settings.test_writers, settings.val_writers
    return {"train": set(order[test + val :]), "val": set(order[test : test + val]), "test": set(order[:test])}


def _write_images(folder: Path, settings: GeneratedDigitsSettings) -> int:
    """Write all images below `folder`; returns how many."""
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
    """Images sampled from a kernel density of principal components, one around each that it was fitted on.

    Args:
        images: (N, 8, 8) float, whole numbers in [0, 16].
        writers: (N,) names; the bandwidth is the one under which writers that were left out are likeliest.
        components: how many principal components there are.
        rng: decides the sample.

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
    """The bandwidth, of 11 between 1 and 10, under which the images of a writer left out are likeliest.

    Args:
        centres: (N, D) what the kernels stand on.
        writers: (N,) who wrote each.
    """
    import numpy as np
    from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
    from sklearn.neighbors import KernelDensity

    choices = {"bandwidth": np.logspace(0, 1, 11)}
    search = GridSearchCV(KernelDensity(), choices, cv=LeaveOneGroupOut(), refit=False)
    search.fit(centres, groups=writers)
    return float(search.best_params_["bandwidth"])
