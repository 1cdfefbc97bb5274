"""Acceptance rules: what a candidate's verdict has to reach.

Judges apply a rule to partial verdicts too, which hold the best result that is still possible. A rule must therefore
never reject a partial verdict that it would accept once more images are predicted right.
"""

from dataclasses import dataclass

import numpy as np

from soups.recipes.shared.pool import Verdict


@dataclass(frozen=True)
class AtLeast:
    """Accepts a score that is at least `score`, or above it with `strict`."""

    score: float
    strict: bool = False

    def allows(self, verdict: Verdict) -> bool:
        """Compare the score."""
        return verdict.score > self.score if self.strict else verdict.score >= self.score


@dataclass(frozen=True)
class ScoreThenLoss:
    """Accepts a higher score, or an equal score with a log-loss that is not higher."""

    score: float
    log_loss: float

    def allows(self, verdict: Verdict) -> bool:
        """Compare the score, then the log-loss."""
        return verdict.score > self.score or (verdict.score == self.score and verdict.log_loss <= self.log_loss)


@dataclass(frozen=True)
class LossAtMost:
    """Accepts a log-loss that is not higher, whatever the score."""

    log_loss: float

    def allows(self, verdict: Verdict) -> bool:
        """Compare the log-loss."""
        return verdict.log_loss <= self.log_loss


@dataclass(frozen=True)
class Significant:
    """Accepts a higher score with a statistically significant paired gain in right predictions.

    One-sided exact McNemar test: under the null hypothesis, each of the two models is right on half of the images that
    exactly one of them predicts right. The test takes images as independent, so with groups its p-value is too small.
    """

    incumbent: Verdict
    """Verdict to beat, with its outcome for every image."""
    level: float
    """Significance level, in (0, 1)."""

    def allows(self, verdict: Verdict) -> bool:
        """Compare the score, then the p-value with `level`; images not judged yet count as right for the candidate."""
        if verdict.score <= self.incumbent.score:
            return False
        assert verdict.outcome is not None and self.incumbent.outcome is not None
        gained, lost = gains_and_losses(verdict.outcome, self.incumbent.outcome)
        return sign_test(gained, lost) <= self.level


def gains_and_losses(outcome: np.ndarray, incumbent: np.ndarray, *, seen_only: bool = False) -> tuple[int, int]:
    """Count the images that only the candidate predicts right, and those that only the incumbent does.

    Args:
        outcome: (N,) int8 of the candidate, 1 right, 0 wrong, -1 not judged.
        incumbent: (N,) int8 of the incumbent, with all images judged.
        seen_only: ignore images that are not judged; by default they count as right for the candidate.
    """
    right = outcome == 1 if seen_only else outcome != 0
    return int((right & (incumbent == 0)).sum()), int(((outcome == 0) & (incumbent == 1)).sum())


def count_gains(verdict: Verdict, incumbent: Verdict) -> tuple[int, int] | None:
    """Count judged images that only the candidate and only the incumbent predicts right; None without outcomes."""
    if verdict.outcome is None or incumbent.outcome is None:
        return None
    return gains_and_losses(verdict.outcome, incumbent.outcome, seen_only=True)


def sign_test(gained: int, lost: int) -> float:
    """Return the probability of at least `gained` heads in `gained + lost` tosses of a fair coin; 1 for no toss."""
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binom

    return float(binom.sf(gained - 1, gained + lost, 0.5))
