"""Sentences that explain why a candidate was accepted or rejected."""

import math

from soups.recipes.shared.acceptance import LossAtMost, ScoreThenLoss, Significant, gains_and_losses, sign_test
from soups.recipes.shared.pool import Accept, Verdict


def explain_decision(verdict: Verdict, incumbent: Verdict, accept: Accept, accepted: bool) -> str:
    """Explain a decision in words, according to the acceptance rule."""
    if not verdict.complete:
        return explain_stop(verdict)
    if isinstance(accept, LossAtMost):
        return _explain_loss(verdict, incumbent)
    if (
        isinstance(accept, ScoreThenLoss)
        and verdict.score == incumbent.score
        and verdict.log_loss != incumbent.log_loss
    ):
        how = "and its log-loss is lower" if accepted else "but its log-loss is higher"
        return f"as good as without it, {how} by {abs(verdict.log_loss - incumbent.log_loss):.2g}"
    if isinstance(accept, Significant):
        return _explain_significance(verdict, incumbent)
    if verdict.score == incumbent.score:
        return "as good as without it" if accepted else "only as good as without it"
    return _explain_score(verdict, incumbent)


def explain_stop(verdict: Verdict) -> str:
    """Explain that the judge stopped early."""
    return f"out of reach after {_count_images(verdict.images)}, {verdict.errors} of them wrong"


def count_gains(verdict: Verdict, incumbent: Verdict) -> tuple[int, int] | None:
    """Count judged images that only the candidate and only the incumbent predicts right; None without outcomes."""
    if verdict.outcome is None or incumbent.outcome is None:
        return None
    return gains_and_losses(verdict.outcome, incumbent.outcome, seen_only=True)


def _explain_score(verdict: Verdict, incumbent: Verdict) -> str:
    gap = f"by {_format_gap(verdict, incumbent)}"
    return f"better with it {gap}" if verdict.score > incumbent.score else f"worse with it {gap}"


def _explain_loss(verdict: Verdict, incumbent: Verdict) -> str:
    if verdict.log_loss == incumbent.log_loss:
        return "the same log-loss with it"
    way = "falls" if verdict.log_loss < incumbent.log_loss else "rises"
    return f"the log-loss {way} with it by {abs(verdict.log_loss - incumbent.log_loss):.2g}"


def _explain_significance(verdict: Verdict, incumbent: Verdict) -> str:
    counts = count_gains(verdict, incumbent)
    assert counts is not None  # `Significant` needs the outcomes too.
    counted = f"({counts[0]} gained, {counts[1]} lost)"
    if verdict.score == incumbent.score:
        return f"only as good as without it {counted}"
    text = f"{_explain_score(verdict, incumbent)} {counted}"
    if verdict.score < incumbent.score:
        return text
    return f"{text}, which chance gives with p = {sign_test(*counts):.2g}"


def _format_gap(one: Verdict, other: Verdict) -> str:
    """Format the difference of two results: in images if the score is the accuracy, else in the score."""
    if all(math.isclose(result.score, 1 - result.errors / result.images) for result in (one, other)):
        return _count_images(abs(one.errors - other.errors))
    return f"{abs(one.score - other.score):.2g} in the score"


def _count_images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"
