"""Duplicate images between splits: equal files, equal pixels and near duplicates."""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.data.images.cache import open_images
from soups.data.images.decode import decode
from soups.data.images.geometry import Geometry
from soups.data.layouts.image_files import format_list
from soups.files.file_hashes import hash_files

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.99
"""Concordance from which two images are near duplicates. The most similar different images have 0.988 among the demo's
digits (8 × 8 originals of one class) and 0.946 among drawn faces. Copies saved as JPEG of quality 30 to 95, or resized
to two thirds, have 0.998; a 32-pixel image at half its size has 0.992."""
_THUMBNAIL = Geometry(16, 16, "bilinear", "squash")
_EQUAL_SIMILARITY = 0.9999
_BLOCK = 2048
_SHOWN = 5
_RANK = {"train": 0, "val": 1, "test": 2}
"""Images of a split must not occur in one of higher rank; shift sets have rank 3."""
COLUMNS = ("image_a", "split_a", "image_b", "split_b", "kind", "similarity")
BYTES, PIXELS, NEARLY = "bytes", "pixels", "near"


def find_duplicates(samples: "pd.DataFrame", root: Path, folder: Path, near: bool) -> "pd.DataFrame":
    """Find images of validation, test and shift sets in training, and images of test and shift sets in validation.

    Test and shift sets are not compared with each other, because shift sets may be derived from test images. For shift
    sets only equal files count, because their images are changed on purpose.

    Args:
        samples: columns `image` and `split`; all images are readable.
        root: folder that image paths are relative to.
        folder: cache folder for hashes and thumbnails.
        near: also compare pixels, which decodes every image once.

    Returns:
        One row per image b and set a, with the most similar image a. `kind` is `bytes` (equal files), `pixels` (equal
        pixels) or `near` (similarity of at least `NEAR`). Sorted by kind and image.
    """
    import pandas as pd

    sets = {str(split): rows for split, rows in samples.groupby("split")}
    thumbnails = _load_thumbnails(samples, root, folder) if near else {}
    rows: list[tuple[object, ...]] = []
    for first, second in product(("train", "val"), sets):
        if first in sets and _RANK.get(second, 3) > _RANK[first]:
            ones, others = (sets[split]["image"].tolist() for split in (first, second))
            hashes, other_hashes = (hash_files([root / name for name in names], folder) for names in (ones, others))
            first_row = {sha256: row for row, sha256 in reversed(list(enumerate(hashes)))}
            found = {row: (first_row[key], BYTES, 1.0) for row, key in enumerate(other_hashes) if key in first_row}
            if first in thumbnails and second in thumbnails:
                found |= _match_pictures(thumbnails[first], thumbnails[second], ones, others, root, set(found))
            rows += [(ones[one], first, others[other], second, *match) for other, (one, *match) in found.items()]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["kind", "split_b", "image_b", "split_a"], ignore_index=True)


def _match_pictures(
    pictures: np.ndarray, others: np.ndarray, ones: list[str], names: list[str], root: Path, equal: set[int]
) -> dict[int, tuple[int, str, float]]:
    """Map positions in the second list to that of the most similar picture in the first, kind and similarity.

    Compares thumbnails; skips positions in `equal`, which have an equal file.
    """
    best, value = most_similar(others, pictures)
    found = {}
    for other in sorted(set(np.flatnonzero(value >= NEAR).tolist()) - equal):
        one, similarity = int(best[other]), float(value[other])
        same = similarity >= _EQUAL_SIMILARITY and np.array_equal(decode(root / ones[one]), decode(root / names[other]))
        found[other] = (one, PIXELS if same else NEARLY, round(similarity, 4))
    return found


def _load_thumbnails(samples: "pd.DataFrame", root: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return thumbnails of training, validation and test images by split, (N, 16, 16, 3) uint8 each."""
    rows = samples[samples["split"].isin(["train", "val", "test"])]
    # One cache file, in an order independent of the split, so that other splits of the same images use it too.
    images = open_images([root / name for name in rows["image"]], _THUMBNAIL, "auto", folder)
    splits = rows["split"].to_numpy(dtype=str)
    return {str(split): images.take(np.flatnonzero(splits == split)) for split in np.unique(splits)}


def describe_conflicts(samples: "pd.DataFrame", root: Path, folder: Path) -> str:
    """Return one line that names equal files with different labels, in any sets; empty without any.

    Args:
        samples: columns `image` and `label`; images without a label are not compared.
        root: folder that image paths are relative to.
        folder: cache folder for hashes.
    """
    rows = samples[samples["label"] != ""]
    rows = rows.assign(sha256=hash_files([root / name for name in rows["image"]], folder))
    conflicts = rows[rows.groupby("sha256")["label"].transform("nunique") > 1]
    pairs = [
        " = ".join(f"{image} ({label})" for image, label in zip(equal["image"], equal["label"], strict=True))
        for _, equal in conflicts.groupby("sha256", sort=False)
    ]
    problem = f"{len(pairs)} images have several labels: {format_list(pairs, _SHOWN)}" if pairs else ""
    return problem and f"{problem}; correct them with --relabel"


def check_leaks(found: "pd.DataFrame") -> None:
    """Check that no test image equals a training image.

    Raises:
        DataError: some are equal.
    """
    leaks = found[(found["kind"] != NEARLY) & (found["split_a"] == "train") & (found["split_b"] == "test")]
    if len(leaks):
        pairs = [f"{one} = {other}" for one, other in zip(leaks["image_a"], leaks["image_b"], strict=True)]
        raise DataError(
            f"{len(leaks)} test images are training images too: {format_list(pairs, _SHOWN)}",
            expected="test images that are not in training",
            next_step="remove them from one set, or set --allow-duplicates, which lists them in output/duplicates.csv",
        )


def format_counts(found: "pd.DataFrame") -> str:
    """Return one line with the counts of equal and nearly equal images for each pair of sets."""
    counts = (found["kind"] == NEARLY).groupby([found["split_a"], found["split_b"]]).agg(["size", "sum"])
    parts = [
        f"{one} and {other} {size - near} equal, {near} nearly" for (one, other), size, near in counts.itertuples()
    ]
    return "duplicate images between sets: " + "; ".join(parts)


def most_similar(pictures: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each picture the most similar one among others.

    The similarity is Lin's concordance (1989, Biometrics 45:255), 2 cov(a, b) / (var a + var b + (mean a - mean b)²).
    It is 1 for equal pictures only and decreases with differences in brightness, contrast or shape. If both variances
    and the difference of the means are 0, it is set to 1.

    Args:
        pictures: (N, …) numbers.
        others: (M, …) numbers of the same shape, M > 0.

    Returns:
        (N,) int64 positions in `others` (ties: the first), and (N,) float32 similarities.
    """
    flat, mean, variance = _moments(others)
    best, value = np.zeros(len(pictures), dtype=np.int64), np.full(len(pictures), -1, dtype=np.float32)
    for start in range(0, len(pictures), _BLOCK):
        block, block_mean, block_variance = _moments(pictures[start : start + _BLOCK])
        covariance = block @ flat.T / flat.shape[1]
        denominator = block_variance[:, None] + variance + (block_mean[:, None] - mean) ** 2
        concordance = np.where(denominator > 1e-6, 2 * covariance / np.maximum(denominator, 1e-6), 1)
        best[start : start + _BLOCK] = concordance.argmax(axis=1)
        value[start : start + _BLOCK] = concordance.max(axis=1)
    return best, value


def _moments(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centred rows (N, D) float32, their means (N,) and their variances (N,)."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    mean = flat.mean(axis=1)
    flat = flat - mean[:, None]
    return flat, mean, (flat**2).mean(axis=1)
