"""The same picture in two sets: equal files, equal pixels, and pictures that are nearly equal."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.data.images.cache import open_images
from soups.data.images.decode import decode
from soups.data.images.geometry import Geometry
from soups.data.layouts.folders import format_list
from soups.files.file_hashes import hash_files

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.99
"""Concordance of two pictures from which they count as nearly the same. The closest different ones among the demo's
digits (8 × 8 originals of one class) have 0.988, drawn faces 0.946; what was saved as JPEG of quality 30 to 95 or
resized to two thirds has 0.998, a 32-pixel picture at half its size 0.992."""
_THUMBNAIL = Geometry(16, 16, "bilinear", "squash")
_EQUAL_SIMILARITY = 0.9999
_BLOCK = 2048
_SHOWN = 5
COLUMNS = ("image_a", "split_a", "image_b", "split_b", "kind", "similarity")
BYTES, PIXELS, NEARLY = "bytes", "pixels", "near"


def find_duplicates(samples: "pd.DataFrame", root: Path, folder: Path, near: bool) -> "pd.DataFrame":
    """Images of validation, test and shift sets that are in training too, and those of test and shift in validation.

    Shift sets may be made of the test images, so those are not held against each other; and only files of theirs that
    are equal count, as their pictures are changed on purpose.

    Args:
        samples: columns `image` and `split`; all images are known to be readable.
        root: where the images' paths begin.
        folder: where hashes and small pictures are kept.
        near: look at the pictures too: every image is then decoded once.

    Returns:
        A row for each image b and set a, with the most similar image a: `bytes` and `pixels` are equal, `near` ones
        have at least `NEAR`. Sorted by kind and image.
    """
    import pandas as pd

    sets = {str(split): rows for split, rows in samples.groupby("split")}
    pictures = _load_thumbnails(samples, root, folder) if near else {}
    rows: list[tuple[object, ...]] = []
    for first, second in product(("train", "val"), sorted(sets, key=_split_rank)):
        if first in sets and _split_rank(second) > _split_rank(first):
            ones, others = (sets[split]["image"].tolist() for split in (first, second))
            found = _match_files([[root / name for name in names] for names in (ones, others)], folder)
            if first in pictures and second in pictures:
                found |= _match_pictures(pictures[first], pictures[second], ones, others, root, set(found))
            rows += [(ones[one], first, others[other], second, *what) for other, (one, *what) in found.items()]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["kind", "split_b", "image_b", "split_a"], ignore_index=True)


def _match_files(files: Sequence[Sequence[Path]], folder: Path) -> dict[int, tuple[int, str, float]]:
    """Position among the second files → position of the first equal one among the first, kind, similarity."""
    ones, others = (hash_files(paths, folder) for paths in files)
    known = {sha256: row for row, sha256 in reversed(list(enumerate(ones)))}
    return {row: (known[sha256], BYTES, 1.0) for row, sha256 in enumerate(others) if sha256 in known}


def _match_pictures(
    pictures: np.ndarray, others: np.ndarray, ones: list[str], names: list[str], root: Path, equal: set[int]
) -> dict[int, tuple[int, str, float]]:
    """As `_match_files`, of pictures that are equal or nearly so; `equal` have an equal file already."""
    best, value = most_similar(others, pictures)
    found = {}
    for other in np.flatnonzero(value >= NEAR):
        if int(other) not in equal:
            one, similarity = int(best[other]), float(value[other])
            same = similarity >= _EQUAL_SIMILARITY and _same_pixels(root / ones[one], root / names[other])
            found[int(other)] = (one, PIXELS if same else NEARLY, round(similarity, 4))
    return found


def _load_thumbnails(samples: "pd.DataFrame", root: Path, folder: Path) -> dict[str, np.ndarray]:
    """Small pictures of the training, validation and test images: (N, 16, 16, 3) uint8 each."""
    rows = samples[samples["split"].isin(["train", "val", "test"])]
    # All at once, in an order that no split changes, so that other splits of the same images find them kept.
    images = open_images([root / name for name in rows["image"]], _THUMBNAIL, "auto", folder)
    splits = rows["split"].to_numpy(dtype=str)
    return {str(split): images.take(np.flatnonzero(splits == split)) for split in np.unique(splits)}


def check_leaks(found: "pd.DataFrame") -> None:
    """Refuse equal images in training and test.

    Raises:
        DataError: names some of them.
    """
    leaks = found[(found["kind"] != NEARLY) & (found["split_a"] == "train") & (found["split_b"] == "test")]
    if len(leaks):
        pairs = [f"{one} = {other}" for one, other in zip(leaks["image_a"], leaks["image_b"], strict=True)]
        raise DataError(
            f"{len(leaks)} test images are training images too: {format_list(pairs, _SHOWN)}",
            expected="test images that no model has seen",
            next_step="remove them from one side; --allow-duplicates goes on, and lists them in output/duplicates.csv",
        )


def format_counts(found: "pd.DataFrame") -> str:
    """How many there are between which sets, in one line."""
    pairs = found.groupby(["split_a", "split_b"])["kind"]
    parts = []
    for sets, kinds in pairs:
        near = int((kinds == NEARLY).sum())
        parts.append(f"{' and '.join(map(str, sets))} {len(kinds) - near} equal, {near} nearly")
    return "the same image in two sets: " + "; ".join(parts)


def most_similar(pictures: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each picture the other one that is most like it.

    The similarity is Lin's concordance (1989, Biometrics 45:255), 2 cov(a, b) / (var a + var b + (mean a - mean b)²): 1
    for equal pictures alone, lower where brightness, contrast or shapes differ. Two pictures of one even colour have 1.

    Args:
        pictures: (N, …) numbers.
        others: (M, …) numbers of the same shape, M > 0.

    Returns:
        (N,) int64 positions in `others`, the first of equal ones, and (N,) float32 similarities.
    """
    flat, mean, variance = _moments(others)
    best, value = np.zeros(len(pictures), dtype=np.int64), np.full(len(pictures), -1, dtype=np.float32)
    for start in range(0, len(pictures), _BLOCK):
        part, own_mean, own_variance = _moments(pictures[start : start + _BLOCK])
        covariance = part @ flat.T / flat.shape[1]
        spread = own_variance[:, None] + variance + (own_mean[:, None] - mean) ** 2
        concordance = np.where(spread > 1e-6, 2 * covariance / np.maximum(spread, 1e-6), 1)
        best[start : start + _BLOCK] = concordance.argmax(axis=1)
        value[start : start + _BLOCK] = concordance.max(axis=1)
    return best, value


def _moments(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, D) float32 with its mean taken off, (N,) mean, (N,) variance."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    mean = flat.mean(axis=1)
    flat = flat - mean[:, None]
    return flat, mean, (flat**2).mean(axis=1)


def _split_rank(split: str) -> int:
    return {"train": 0, "val": 1, "test": 2}.get(split, 3)


def _same_pixels(first: Path, second: Path) -> bool:
    return np.array_equal(decode(first), decode(second))
