"""Greedy ensemble selection: which models vote, and how often, by the validation set."""

from collections.abc import Callable, Sequence

import numpy as np

from soups.core.errors import DataError
from soups.core.metrics import Metric

ROUNDS = 50
"""Models added after the start; with replacement, so weights come in steps of about 2%."""

_DIGITS = 12  # A sum of ten equal tables divided by ten is another table in the last bits, and no better.

TableLoader = Callable[[], np.ndarray]
"""Gives one model's (N, C) probabilities; asked twice, so that only one table needs to be in memory."""

Merit = tuple[float, float]
"""The metric's score (higher is better) and the negative log-loss that decides between equal ones."""


def select_models(
    tables: Sequence[TableLoader], labels: np.ndarray, metric: Metric, rounds: int = ROUNDS
) -> np.ndarray:
    """How often each model is in the vote that scores best on the validation images.

    Caruana et al. 2004, "Ensemble selection from libraries of models" (ICML), sections 2 to 2.2: forward selection with
    replacement from a sorted start. The models are sorted by their own score, and the best first k of them begin; in
    each round the model that helps most (or hurts least) joins once more; the best of all ensembles on the way is the
    result. Equal scores are decided by the log-loss, then by the order given. Left out: the bags of models of section
    2.3, which guard libraries of thousands.

    All votes are running sums. Kept of each model are the probability of the true class, and those of the classes that
    could win the vote at all: a class that every model finds less likely than one fixed other class never does. For
    50,000 images of 1,000 classes that is a hundredth of the tables.

    Args:
        tables: M functions, each giving (N, C) float probabilities, rows summing to one.
        labels: (N,) int64, true classes.
        metric: one of `METRICS`.
        rounds: additions after the sorted start.

    Returns:
        (M,) int64 counts, at least one above zero; divided by their sum they are the weights of a weighted vote.

    Raises:
        DataError: no models, no images, or tables that do not fit the labels or each other.
    """
    library = _VoteState(tables, labels, metric)
    models = len(tables)
    order = sorted(range(models), key=lambda model: library.merit(model), reverse=True)
    counts, best = np.zeros(models, dtype=np.int64), None
    for model in order:
        library.add(model)
        counts[model] += 1
        merit = library.merit()
        if best is None or merit > best[0]:
            best = merit, counts.copy()
    assert best is not None
    counts = best[1].copy()
    library.restart(counts)
    for _ in range(rounds):
        merit, model = library.best_addition()
        library.add(model)
        counts[model] += 1
        if merit > best[0]:
            best = merit, counts.copy()
    return best[1]


class _VoteState:
    """The models' probabilities as far as they matter, and the running sum of one vote."""

    def __init__(self, tables: Sequence[TableLoader], labels: np.ndarray, metric: Metric) -> None:
        if not tables or len(labels) == 0:
            found = f"{len(tables)} models, {len(labels)} images"
            raise DataError("nothing to select an ensemble from", expected="models and labelled images", found=found)
        self.labels, self.metric = labels, metric
        can_win = _possible_winners(tables, labels)
        if metric.vote_score is None:  # Such a metric needs the whole table of each vote.
            can_win[:] = True
        self.classes_in_all = can_win.shape[1]
        self.images, self.classes = np.nonzero(can_win)
        self.begins = np.searchsorted(self.images, np.arange(len(labels)))
        del can_win
        self.contested = np.empty((len(tables), len(self.images)))
        self.chosen = np.empty((len(tables), len(labels)))
        for model, load in enumerate(tables):
            table = load()
            self.contested[model] = table[self.images, self.classes]
            self.chosen[model] = table[np.arange(len(labels)), labels]
        self.restart(np.zeros(len(tables), dtype=np.int64))

    def restart(self, counts: np.ndarray) -> None:
        """Begin with the vote of these counts."""
        self.size = int(counts.sum())
        self.contested_sum = np.zeros(self.contested.shape[1])
        self.chosen_sum = np.zeros(self.chosen.shape[1])
        for model in np.flatnonzero(counts):
            self.contested_sum += counts[model] * self.contested[model]
            self.chosen_sum += counts[model] * self.chosen[model]

    def add(self, model: int) -> None:
        """Count a model once more."""
        self.contested_sum += self.contested[model]
        self.chosen_sum += self.chosen[model]
        self.size += 1

    def best_addition(self) -> tuple[Merit, int]:
        """The merit of the best vote that one more model gives, and the model; the first of equal ones."""
        merits = [
            self._merit(self.contested_sum + contested, self.chosen_sum + chosen, self.size + 1)
            for contested, chosen in zip(self.contested, self.chosen, strict=True)
        ]
        model = max(range(len(merits)), key=lambda index: merits[index])
        return merits[model], model

    def merit(self, model: int | None = None) -> Merit:
        """Of the vote so far, or of one model alone."""
        if model is None:
            return self._merit(self.contested_sum, self.chosen_sum, self.size)
        return self._merit(self.contested[model], self.chosen[model], 1)

    def _merit(self, contested: np.ndarray, chosen: np.ndarray, size: int) -> Merit:
        highest = np.maximum.reduceat(contested, self.begins)
        lengths = np.diff(self.begins, append=len(contested))
        winners = np.where(contested == np.repeat(highest, lengths), self.classes, self.classes_in_all)
        predicted = np.minimum.reduceat(winners, self.begins)
        log_loss = float(-np.mean(np.log(np.clip(chosen / size, np.finfo(np.float64).eps, 1.0))))
        if self.metric.vote_score is None:
            score = self.metric.score((contested / size).reshape(len(self.labels), -1), self.labels)
        else:
            score = self.metric.vote_score(predicted, self.labels, highest / size, log_loss)
        return round(score, _DIGITS), -round(log_loss, _DIGITS)


def _possible_winners(tables: Sequence[TableLoader], labels: np.ndarray) -> np.ndarray:
    """(N, C) bool: the classes that not all models find less likely than the first model's favourite."""
    rows = np.arange(len(labels))
    can_win: np.ndarray | None = None
    for number, load in enumerate(tables):
        table = load()
        if can_win is None:
            can_win, favourite = np.zeros(table.shape, dtype=bool), table.argmax(axis=1)
        if table.ndim != 2 or table.shape != can_win.shape or len(table) != len(labels):
            raise DataError(
                f"model {number} (counted from 0) does not fit the others or the labels",
                expected=f"probabilities of {len(labels)} images and as many classes as the first",
                found=str(table.shape),
            )
        can_win |= table >= table[rows, favourite][:, None]
    assert can_win is not None
    return can_win
