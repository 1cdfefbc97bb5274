"""Finds labels that are probably wrong, because out-of-fold probabilities contradict them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soups.core.errors import DataError
from soups.core.statistics import balanced_accuracy_from_sums, bootstrap_sums_interval, class_sums


@dataclass(frozen=True)
class ProposedCorrection:
    """A proposed correction of one label, for review by a person."""

    match: str
    """A group's name, or an image's path."""
    factor: str
    before: str
    """The present level."""
    after: str
    """The most probable level."""
    doubt: float
    """In (0.5, 1]: (1 + probability of the suggested level − probability of the present level) / 2."""
    probability_before: float
    probability_after: float
    issue: bool
    """Whether confident learning classifies it as a label error."""
    rows: tuple[int, ...]
    """Positions of the images of `match`."""


@dataclass(frozen=True)
class Quality:
    """How well out-of-fold predictions know the labels."""

    accuracy: float
    """Share of images whose label is the most probable one, in [0, 1]."""
    mean: float
    """Mean of that share over the classes (balanced accuracy), in [0, 1]."""
    mean_low: float
    """Lower end of its 95% interval, resampling groups."""
    mean_high: float
    """Upper end of it."""
    chance: float
    """Balanced accuracy of guessing: 1 / number of classes that occur."""


def measure_quality(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> Quality:
    """Return how well probabilities (N, C) predict labels (N,) of images in groups (N,).

    Balanced accuracy, because always answering a frequent class has a high accuracy and knows nothing.

    Raises:
        DataError: there is no image.
    """
    if len(labels) == 0:
        raise DataError("no labelled images", expected="labelled images to check")
    guesses = probabilities.argmax(axis=1)
    sums = class_sums(labels, guesses, groups, probabilities.shape[1])
    low, high = bootstrap_sums_interval(sums, balanced_accuracy_from_sums)
    mean = float(balanced_accuracy_from_sums(sums.sum(axis=0)[None])[0])
    return Quality(float(np.mean(guesses == labels)), mean, low, high, 1 / len(np.unique(labels)))


def propose_corrections(
    factor: str,
    levels: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    images: Sequence[str],
    groups: np.ndarray,
) -> list[ProposedCorrection]:
    """Returns a correction for every label of a factor that is not the most probable level, the largest doubt first.

    If the factor is constant within every group (a person's age), the mean probabilities of a group's images are used,
    and the group is corrected as a whole. Computed with cleanlab: doubt is one minus the normalised margin; an issue is
    what confident learning prunes by noise rate (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating
    Uncertainty in Dataset Labels", JAIR 70, section 3.2).

    Args:
        factor: the factor's name.
        levels: C names.
        labels: (N,) int64, the present levels.
        probabilities: (N, C) float64 from models that were not trained on the images, rows summing to one.
        images: N paths.
        groups: (N,) names.

    Raises:
        DataError: there is no image.
    """
    if len(labels) == 0:
        raise DataError("no labelled images", expected="labelled images to check")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    matches, present, averages, rows = _merge_groups(labels, probabilities, images, groups)
    quality = get_label_quality_scores(present, averages, method="normalized_margin")
    with warnings.catch_warnings():
        # cleanlab warns for levels with few images.
        warnings.filterwarnings("ignore", message="May not flag all label issues")
        # One process: on two cores, starting more takes longer than the work.
        issues = find_label_issues(present, averages, filter_by="prune_by_noise_rate", n_jobs=1)
    found = []
    for position in np.argsort(quality, kind="stable"):
        before, after = int(present[position]), int(averages[position].argmax())
        if before != after:
            found.append(
                ProposedCorrection(
                    matches[position],
                    factor,
                    levels[before],
                    levels[after],
                    float(1 - quality[position]),
                    float(averages[position, before]),
                    float(averages[position, after]),
                    bool(issues[position]),
                    rows[position],
                )
            )
    return found


def is_group_label(labels: np.ndarray, groups: np.ndarray) -> bool:
    """Returns whether the label is constant within every group, and some group has several images."""
    import pandas as pd

    by_group = pd.Series(labels).groupby(groups)
    return by_group.ngroups < len(labels) and bool((by_group.nunique() == 1).all())


def _merge_groups(
    labels: np.ndarray, probabilities: np.ndarray, images: Sequence[str], groups: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray, list[tuple[int, ...]]]:
    """Returns names, labels (K,), mean probabilities (K, C) and image positions of the groups, or of single images."""
    if not is_group_label(labels, groups):
        return list(images), labels, probabilities, [(row,) for row in range(len(labels))]
    names, owner = np.unique(groups, return_inverse=True)
    sums, counts = np.zeros((len(names), probabilities.shape[1])), np.bincount(owner)
    np.add.at(sums, owner, probabilities)
    rows = np.split(np.argsort(owner, kind="stable"), np.cumsum(counts)[:-1])
    first = [own[0] for own in rows]
    return names.tolist(), labels[first], sums / counts[:, None], [tuple(own.tolist()) for own in rows]
