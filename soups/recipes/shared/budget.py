"""Evaluation budgets: a judge that counts its verdicts, and helpers with which recipes stop at the limit."""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from soups.core.errors import UsageError
from soups.recipes.shared.pool import Accept, Ingredient, Judge, Soup, State, Verdict, WrappedJudge


class BudgetedJudge(WrappedJudge):
    """A judge with a limit on evaluations or time. It reports that the budget is spent, and never refuses a verdict.

    Every verdict counts, early-stopped ones too. Of candidates judged in parallel, those count that sequential judging
    would have evaluated, so that a budget gives the same soup either way.

    Args:
        judge: gives the verdicts; its other attributes are forwarded.
        evaluations: maximum number of verdicts, 0 or more; None: no limit.
        minutes: time limit from now on, 0 or more; None: no limit. A running evaluation is finished.
        clock: returns the time in seconds.

    Raises:
        UsageError: a negative budget.
    """

    def __init__(
        self,
        judge: Judge,
        evaluations: int | None = None,
        minutes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("evaluations", evaluations), ("minutes", minutes)):
            if value is not None and not value >= 0:
                raise UsageError(f"budget: {name}", expected="a number from 0 on", found=str(value))
        super().__init__(judge)
        self.evaluations, self.minutes, self.clock = evaluations, minutes, clock
        self.evaluations_done, self.started = 0, clock()

    def __call__(self, state: State, accept: Accept | None = None) -> Verdict:
        """Return the judge's verdict and count it."""
        self.evaluations_done += 1
        return super().__call__(state, accept)

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        return self._count_candidates if name == "judge_candidates" else value

    @property
    def budget_spent(self) -> bool:
        """Whether no evaluation or no time is left."""
        out_of_time = self.minutes is not None and self.clock() - self.started >= 60 * self.minutes
        return out_of_time or (self.evaluations is not None and self.evaluations_done >= self.evaluations)

    def _count_candidates(
        self, kept: Sequence[Ingredient], candidates: Sequence[Ingredient], accept: Accept
    ) -> Generator[Verdict]:
        """Yield the verdicts of `judge.judge_candidates` until the budget is spent."""
        if self.evaluations is not None:
            candidates = candidates[: max(0, self.evaluations - self.evaluations_done)]
        with closing(self.judge.judge_candidates(kept, candidates, accept)) as verdicts:  # type: ignore[attr-defined]
            while not self.budget_spent and (verdict := next(verdicts, None)) is not None:
                self.evaluations_done += 1
                yield verdict


def is_spent(judge: Judge) -> bool:
    """Return whether the judge's budget is spent; False for a judge without a budget."""
    return bool(getattr(judge, "budget_spent", False))


def finish_soup(
    soup: Soup, score: float | None, decisions: Iterable[dict[str, Any]], untried: Sequence[str] = ()
) -> Soup:
    """Return a soup with its score and decisions; options and summary say which candidates the budget left untried."""
    soup = replace(soup, score=score, decisions=tuple(decisions))
    if not untried:
        return soup
    verb = "was" if len(untried) == 1 else "were"
    summary = f"{soup.summary}; {len(untried)} more {verb} not tried, the budget was spent"
    return replace(soup, options={**soup.options, "untried": list(untried)}, summary=summary)
