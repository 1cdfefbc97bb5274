"""Sentences that explain why a candidate was accepted or rejected."""

import math

from soups.recipes.shared.acceptance import LossAtMost, ScoreThenLoss, Significant, count_gains, sign_test
from soups.recipes.shared.pool import Accept, Verdict


def explain_decision(verdict: Verdict, incumbent: Verdict, accept: Accept, accepted: bool) -> str:
    """Explain a decision in words, according to the acceptance rule."""
    if not verdict.complete:
        return explain_stop(verdict)
    loss_gap = f"by {abs(verdict.log_loss - incumbent.log_loss):.2g}"
    if isinstance(accept, LossAtMost):
        if verdict.log_loss == incumbent.log_loss:
            return "the same log-loss with it"
        return f"the log-loss {'falls' if verdict.log_loss < incumbent.log_loss else 'rises'} with it {loss_gap}"
    tied = verdict.score == incumbent.score
    if isinstance(accept, ScoreThenLoss) and tied and verdict.log_loss != incumbent.log_loss:
        how = "and its log-loss is lower" if accepted else "but its log-loss is higher"
        return f"as good as without it, {how} {loss_gap}"
    better = verdict.score > incumbent.score
    if tied:
        text = "as good as without it" if accepted else "only as good as without it"
    else:
        text = f"{'better' if better else 'worse'} with it by {_format_gap(verdict, incumbent)}"
    if isinstance(accept, Significant):
        gains = count_gains(verdict, incumbent)
        assert gains is not None  # `Significant` needs the outcomes too.
        text += f" ({gains[0]} gained, {gains[1]} lost)"
        text += f", which chance gives with p = {sign_test(*gains):.2g}" if better else ""
    return text


def explain_stop(verdict: Verdict) -> str:
    """Explain that the judge stopped early."""
    return f"out of reach after {_count_images(verdict.images)}, {verdict.errors} of them wrong"


def _format_gap(one: Verdict, other: Verdict) -> str:
    """Format the difference of two results: in images if the score is the accuracy, else in the score."""
    if all(math.isclose(result.score, 1 - result.errors / result.images) for result in (one, other)):
        return _count_images(abs(one.errors - other.errors))
    return f"{abs(one.score - other.score):.2g} in the score"


def _count_images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"
