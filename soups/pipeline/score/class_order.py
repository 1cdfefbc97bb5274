"""Detects a foreign pool whose recorded class order differs from that of its logits."""

import logging

import numpy as np

from soups.core.scores import predictions
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.votes import best_single

logger = logging.getLogger(__name__)


def warn_if_misordered(context: RunContext) -> None:
    """Warn if the best foreign model's logits fit the classes far better in another order than the recorded one."""
    if context.run.recorded.foreign is None:
        return
    best = best_single(context)
    labels, names = context.labels("val"), context.run.space.names
    found = predictions(context.probabilities(best, ["val"])["val"])
    correct = int((found == labels).sum())
    if 2 * correct >= len(labels):
        return
    from scipy.optimize import linear_sum_assignment

    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (labels, found), 1)
    _, logit_of = linear_sum_assignment(matrix, maximize=True)
    reordered = int(matrix[np.arange(len(names)), logit_of].sum())
    if reordered < max(2 * correct, len(labels) / 2):
        return
    logger.warning(
        "%s: %d of %d validation images are right, but %d with the classes in another order; if that is the order of "
        "its logits, start a new run with another --name and --class-names %s",
        *(best.stem, correct, len(labels), reordered, " ".join(names[index] for index in np.argsort(logit_of))),
    )
