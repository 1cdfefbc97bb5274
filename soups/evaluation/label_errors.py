"""Labels that are probably wrong: where probabilities that come from elsewhere contradict them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soups.core.errors import DataError


@dataclass(frozen=True)
class ProposedCorrection:
    """A correction, to be decided by a person."""

    match: str
    """A group, or an image's path."""
    factor: str
    before: str
    """The level as given."""
    after: str
    """The level that the probabilities suggest."""
    doubt: float
    """In (0.5, 1]: half of one plus the distance between the probabilities of the suggested and the given level."""
    probability_before: float
    probability_after: float
    issue: bool
    """Whether confident learning takes it for a label error."""
    rows: tuple[int, ...]
    """Positions of its images."""


def propose_corrections(
    factor: str,
    levels: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    images: Sequence[str],
    groups: np.ndarray,
) -> list[ProposedCorrection]:
    """Corrections of one factor, the most doubtful first: every label that is not the most probable level.

    Where the factor is the same for all images of every group (a person's age), a group is judged by the mean of its
    images' probabilities, and corrected as a whole. By cleanlab: the doubt is one minus its normalised margin, and an
    issue what confident learning prunes by noise rate (Northcutt, Jiang and Chuang 2021, "Confident Learning:
    Estimating Uncertainty in Dataset Labels", JAIR 70, section 3.2).

    Args:
        factor: its name.
        levels: C names.
        labels: (N,) int64, as given.
        probabilities: (N, C) float64 from models that were not trained on the images, rows summing to one.
        images: N paths.
        groups: (N,) names.

    Raises:
        DataError: no image.
    """
    if len(labels) == 0:
        raise DataError("no labelled images to look for wrong labels in")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    matches, given, told, rows = _judged_together(labels, probabilities, images, groups)
    quality = get_label_quality_scores(given, told, method="normalized_margin")
    with warnings.catch_warnings():
        # Of a level with hardly any images little can be said, which needs no saying.
        warnings.filterwarnings("ignore", message="May not flag all label issues")
        # One process: on two cores starting more takes longer than the work.
        issues = find_label_issues(given, told, filter_by="prune_by_noise_rate", n_jobs=1)
    found = []
    for place in np.argsort(quality, kind="stable"):
        suggested = int(told[place].argmax())
        if suggested != given[place]:
            found.append(
                ProposedCorrection(
                    matches[place],
                    factor,
                    levels[given[place]],
                    levels[suggested],
                    float(1 - quality[place]),
                    float(told[place, given[place]]),
                    float(told[place, suggested]),
                    bool(issues[place]),
                    rows[place],
                )
            )
    return found


def is_group_label(labels: np.ndarray, groups: np.ndarray) -> bool:
    """Whether a label is that of whole groups: the same for all images of each, and some have several."""
    _, owner = np.unique(groups, return_inverse=True)
    size = int(owner.max()) + 1
    lowest, highest = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(lowest, owner, labels)
    np.maximum.at(highest, owner, labels)
    return size < len(labels) and bool((lowest == highest).all())


def _judged_together(
    labels: np.ndarray, probabilities: np.ndarray, images: Sequence[str], groups: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray, list[tuple[int, ...]]]:
    """What is judged as one: its name, label (K,), probabilities (K, C), and the positions of its images."""
    if not is_group_label(labels, groups):
        return list(images), labels, probabilities, [(row,) for row in range(len(labels))]
    names, owner = np.unique(groups, return_inverse=True)
    sums, counts = np.zeros((len(names), probabilities.shape[1])), np.bincount(owner)
    np.add.at(sums, owner, probabilities)
    rows: list[list[int]] = [[] for _ in names]
    for row, place in enumerate(owner.tolist()):
        rows[place].append(row)
    first = [own[0] for own in rows]
    return names.tolist(), labels[first], sums / counts[:, None], [tuple(own) for own in rows]
