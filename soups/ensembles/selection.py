"""Greedy ensemble selection: how often each model is in a vote, selected on the validation set."""

from collections.abc import Callable, Sequence

import numpy as np

from soups.core.errors import DataError
from soups.core.metrics import Metric

ROUNDS = 50
"""Models added after the sorted start, with replacement: weights are multiples of about 2%."""

_DIGITS = 12  # Rounds away differences in the last bits, such as between one table and the mean of ten copies of it.

TableLoader = Callable[[], np.ndarray]
"""Returns one model's (N, C) probabilities. It is called twice, so that only one table is in memory at a time."""

Merit = tuple[float, float]
"""The metric's score (higher is better), and the negative log-loss for ties."""


def select_models(
    tables: Sequence[TableLoader], labels: np.ndarray, metric: Metric, rounds: int = ROUNDS
) -> np.ndarray:
    """Select how often each model is in the soft vote with the best score on the validation images.

    Caruana et al. 2004, "Ensemble selection from libraries of models" (ICML), sections 2 to 2.2: forward selection with
    replacement from a sorted start. The start is the best prefix of the models sorted by their own score. Each round
    adds the model with the best resulting score. The result is the best of all votes on the way. Ties go to the lower
    log-loss, then to the order of `tables`. Bagging of models (section 2.3), for libraries of thousands, is not
    implemented.

    Votes are running sums. For each model only the probabilities of the true class and of possible winners are stored:
    a class that every model finds less likely than one fixed other class never wins. For 50,000 images and 1,000
    classes that is 1% of the tables.

    Args:
        tables: M functions that return (N, C) float probabilities, rows summing to one.
        labels: (N,) int64, true classes.
        metric: an entry of `METRICS`.
        rounds: number of additions after the sorted start.

    Returns:
        (M,) int64 counts, at least one above zero; divided by their sum they are the weights of a weighted vote.

    Raises:
        DataError: there are no models or images, or the shapes of the tables do not match the labels or each other.
    """
    vote = _VoteState(tables, labels, metric)
    order = sorted(range(len(tables)), key=vote.merit, reverse=True)
    best: tuple[Merit, np.ndarray] | None = None
    for model in order:
        vote.add(model)
        merit = vote.merit()
        if best is None or merit > best[0]:
            best = merit, vote.counts.copy()
    assert best is not None
    vote.restart(best[1])
    for _ in range(rounds):
        merit, model = vote.best_addition()
        vote.add(model)
        if merit > best[0]:
            best = merit, vote.counts.copy()
    return best[1]


class _VoteState:
    """The models' probabilities of possible winners and true classes, and the running sum of one vote."""

    def __init__(self, tables: Sequence[TableLoader], labels: np.ndarray, metric: Metric) -> None:
        if not tables or len(labels) == 0:
            found = f"{len(tables)} models, {len(labels)} images"
            raise DataError("ensemble selection: no data", expected="models and labelled images", found=found)
        self.labels, self.metric = labels, metric
        can_win = _possible_winners(tables, labels)
        if metric.vote_score is None:  # The metric needs the probabilities of all classes.
            can_win[:] = True
        self.classes_in_all = can_win.shape[1]
        self.images, self.classes = np.nonzero(can_win)
        self.begins = np.searchsorted(self.images, np.arange(len(labels)))
        del can_win
        # A row of probabilities for each model: those of the possible winners, then those of the true classes.
        self.rows = np.empty((len(tables), len(self.images) + len(labels)))
        for row, load in zip(self.rows, tables, strict=True):
            table = load()
            row[: len(self.images)] = table[self.images, self.classes]
            row[len(self.images) :] = table[np.arange(len(labels)), labels]
        self.restart(np.zeros(len(tables), dtype=np.int64))

    def restart(self, counts: np.ndarray) -> None:
        """Set the vote to these counts of models, (M,) int64."""
        self.counts, self.sum = counts.copy(), np.zeros(self.rows.shape[1])
        for model in np.flatnonzero(counts):
            self.sum += counts[model] * self.rows[model]

    def add(self, model: int) -> None:
        """Add a model to the vote once more."""
        self.sum += self.rows[model]
        self.counts[model] += 1

    def best_addition(self) -> tuple[Merit, int]:
        """Return the highest merit after the addition of one model, and that model; ties to the first."""
        merits = [self._merit(self.sum + row, self.counts.sum() + 1) for row in self.rows]
        model = max(range(len(merits)), key=merits.__getitem__)
        return merits[model], model

    def merit(self, model: int | None = None) -> Merit:
        """Return the merit of the present vote, or of one model alone."""
        return self._merit(self.sum, self.counts.sum()) if model is None else self._merit(self.rows[model], 1)

    def _merit(self, row: np.ndarray, size: int) -> Merit:
        candidates, true_class = row[: len(self.images)], row[len(self.images) :]
        highest = np.maximum.reduceat(candidates, self.begins)
        lengths = np.diff(self.begins, append=len(candidates))
        winners = np.where(candidates == np.repeat(highest, lengths), self.classes, self.classes_in_all)
        predicted = np.minimum.reduceat(winners, self.begins)
        log_loss = float(-np.mean(np.log(np.clip(true_class / size, np.finfo(np.float64).eps, 1.0))))
        if self.metric.vote_score is None:
            score = self.metric.score((candidates / size).reshape(len(self.labels), -1), self.labels)
        else:
            score = self.metric.vote_score(predicted, self.labels, highest / size, log_loss)
        return round(score, _DIGITS), -round(log_loss, _DIGITS)


def _possible_winners(tables: Sequence[TableLoader], labels: np.ndarray) -> np.ndarray:
    """Return (N, C) bool: classes that some model finds at least as likely as the first model's prediction."""
    rows = np.arange(len(labels))
    can_win: np.ndarray | None = None
    for number, load in enumerate(tables):
        table = load()
        if can_win is None:
            can_win, first_prediction = np.zeros(table.shape, dtype=bool), table.argmax(axis=1)
        if table.ndim != 2 or table.shape != can_win.shape or len(table) != len(labels):
            raise DataError(
                f"model {number} (counted from 0): the shape does not match the labels or the first model",
                expected=f"probabilities of {len(labels)} images and as many classes as the first model",
                found=str(table.shape),
            )
        can_win |= table >= table[rows, first_prediction][:, None]
    assert can_win is not None
    return can_win
