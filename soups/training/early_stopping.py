"""The score that is watched while a model trains: it decides which epoch is kept, when to stop, when the rate falls."""

from dataclasses import dataclass, field

from soups.core.metrics import METRICS


@dataclass
class EarlyStopping:
    """The best validation so far by one metric, and for how long there was no better one."""

    metric: str
    """A key of `METRICS`; where less is better, less is a gain."""
    best: dict[str, float] = field(default_factory=dict)
    """All scores of the best epoch, the first of several alike; none before the first."""
    epochs_without_gain: int = 0

    def gains(self, scores: dict[str, float]) -> bool:
        """Take note of one epoch's scores; whether they are better than all before."""
        sign = 1 if METRICS[self.metric].higher_is_better else -1
        if self.best and not sign * scores[self.metric] > sign * self.best[self.metric]:
            self.epochs_without_gain += 1
            return False
        self.best, self.epochs_without_gain = scores, 0
        return True
