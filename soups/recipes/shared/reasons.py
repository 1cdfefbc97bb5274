"""Why a candidate was taken or left, in words."""

import math

from soups.recipes.shared.acceptance import LossAtMost, LowerLoss, Significant, gains_and_losses, sign_test
from soups.recipes.shared.pool import Accept, Verdict


def explain_decision(verdict: Verdict, incumbent: Verdict, accept: Accept, accepted: bool) -> str:
    """What spoke for or against a candidate, by the rule that it was judged by."""
    if not verdict.complete:
        return explain_stop(verdict)
    if isinstance(accept, LossAtMost):
        return _by_loss(verdict, incumbent)
    if isinstance(accept, LowerLoss) and verdict.score == incumbent.score and verdict.log_loss != incumbent.log_loss:
        how = "and its log-loss is lower" if accepted else "but its log-loss is higher"
        return f"as good as without it, {how} by {abs(verdict.log_loss - incumbent.log_loss):.2g}"
    if isinstance(accept, Significant):
        return _by_chance(verdict, incumbent)
    if verdict.score == incumbent.score:
        return "as good as without it" if accepted else "only as good as without it"
    return _by_score(verdict, incumbent)


def explain_stop(verdict: Verdict) -> str:
    """What is said where the judge stopped."""
    return f"out of reach after {_images(verdict.images)}, {verdict.errors} of them wrong"


def count_gains(verdict: Verdict, incumbent: Verdict) -> tuple[int, int] | None:
    """Images seen that only the candidate gets right, and those that only the incumbent does, where both tell."""
    if verdict.outcome is None or incumbent.outcome is None:
        return None
    return gains_and_losses(verdict.outcome, incumbent.outcome, seen_only=True)


def _by_score(verdict: Verdict, incumbent: Verdict) -> str:
    gap = f"by {_gap(verdict, incumbent)}"
    return f"better with it {gap}" if verdict.score > incumbent.score else f"worse with it {gap}"


def _by_loss(verdict: Verdict, incumbent: Verdict) -> str:
    if verdict.log_loss == incumbent.log_loss:
        return "the same log-loss with it"
    way = "falls" if verdict.log_loss < incumbent.log_loss else "rises"
    return f"the log-loss {way} with it by {abs(verdict.log_loss - incumbent.log_loss):.2g}"


def _by_chance(verdict: Verdict, incumbent: Verdict) -> str:
    counts = count_gains(verdict, incumbent)
    assert counts is not None  # The rule would have asked for them.
    told = f"({counts[0]} gained, {counts[1]} lost)"
    if verdict.score == incumbent.score:
        return f"only as good as without it {told}"
    text = f"{_by_score(verdict, incumbent)} {told}"
    if verdict.score < incumbent.score:
        return text
    return f"{text}, which chance gives with p = {sign_test(*counts):.2g}"


def _gap(one: Verdict, other: Verdict) -> str:
    """How far apart two results are: in images where the score is the accuracy, else in the score."""
    if all(math.isclose(result.score, 1 - result.errors / result.images) for result in (one, other)):
        return _images(abs(one.errors - other.errors))
    return f"{abs(one.score - other.score):.2g} in the score"


def _images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"
