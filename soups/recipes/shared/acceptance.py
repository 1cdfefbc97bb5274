"""What a candidate has to reach to be accepted: rules that a judge can apply before it has seen everything.

Each rule looks at a verdict; of a judgement under way, that is the best that can still come of it. So a rule must never
turn a verdict down that it would accept after more images came out right.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.recipes.shared.pool import Verdict

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AtLeast:
    """Not worse than a score; with `strict`, better."""

    score: float
    strict: bool = False

    def allows(self, verdict: Verdict) -> bool:
        """By the score alone."""
        return verdict.score > self.score if self.strict else verdict.score >= self.score


@dataclass(frozen=True)
class LowerLoss:
    """A better score, or the same with a log-loss that is not higher."""

    score: float
    log_loss: float

    def allows(self, verdict: Verdict) -> bool:
        """By the score, ties by the log-loss."""
        return verdict.score > self.score or (verdict.score == self.score and verdict.log_loss <= self.log_loss)


@dataclass(frozen=True)
class LossAtMost:
    """A log-loss that is not higher, whatever the score."""

    log_loss: float

    def allows(self, verdict: Verdict) -> bool:
        """By the log-loss alone."""
        return verdict.log_loss <= self.log_loss


@dataclass(frozen=True)
class Significant:
    """A better score, and a paired gain in right predictions that chance would rarely give.

    One-sided exact McNemar test: of the images that exactly one of the two gets right, each would have half. It takes
    images as independent, so with groups it is too sure of itself.
    """

    incumbent: Verdict
    """With its outcome on every image."""
    level: float
    """The highest probability of such a gain by chance, in (0, 1)."""

    def allows(self, verdict: Verdict) -> bool:
        """Whether it is unlikely enough; images not seen yet count for the candidate where it can gain by them."""
        if verdict.score <= self.incumbent.score:
            return False
        assert verdict.outcome is not None and self.incumbent.outcome is not None
        gained, lost = gains_and_losses(verdict.outcome, self.incumbent.outcome)
        return sign_test(gained, lost) <= self.level


def gains_and_losses(outcome: "np.ndarray", incumbent: "np.ndarray", *, seen_only: bool = False) -> tuple[int, int]:
    """How many images only the candidate gets right, and how many only the incumbent.

    Args:
        outcome: (N,) int8, 1 right, 0 wrong, -1 not seen.
        incumbent: the same of the one to beat, all seen.
        seen_only: images not seen count for nobody; otherwise as right.
    """
    right = outcome == 1 if seen_only else outcome != 0
    return int((right & (incumbent == 0)).sum()), int(((outcome == 0) & (incumbent == 1)).sum())


def sign_test(gained: int, lost: int) -> float:
    """The probability of at least `gained` heads in `gained + lost` throws of a fair coin; 1 for no throws."""
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binom

    return float(binom.sf(gained - 1, gained + lost, 0.5))


def at_least(score: float) -> AtLeast:
    """Accept a candidate that is not worse."""
    return AtLeast(score)


def more_than(score: float) -> AtLeast:
    """Accept a candidate that is better."""
    return AtLeast(score, strict=True)
