"""The best validation score so far; decides the best epoch, early stopping and plateau decay."""

from dataclasses import dataclass, field

from soups.core.metrics import METRICS


@dataclass
class EarlyStopping:
    """The best validation scores so far by one metric, and the number of epochs since then."""

    metric: str
    """A key of `METRICS`; its direction decides what a gain is."""
    best: dict[str, float] = field(default_factory=dict)
    """All scores of the best epoch, the first one of equals; empty before the first validation."""
    epochs_without_gain: int = 0

    def update(self, scores: dict[str, float]) -> bool:
        """Record the scores of one epoch; returns whether they are better than all before."""
        sign = 1 if METRICS[self.metric].higher_is_better else -1
        if self.best and not sign * scores[self.metric] > sign * self.best[self.metric]:
            self.epochs_without_gain += 1
            return False
        self.best, self.epochs_without_gain = scores, 0
        return True
