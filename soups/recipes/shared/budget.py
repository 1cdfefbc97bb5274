"""Budgets: a judge that counts what it was asked, and recipes that stop asking when that is enough."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError
from soups.recipes.shared.pool import Accept, Ingredient, Judge, Verdict

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State


class Budgeted:
    """A judge that says when it has been asked often or long enough; it never refuses.

    Each verdict counts, also of a candidate that was given up early. Of candidates judged at once those count that
    would have been judged one after the other, so that a budget buys the same soup either way.

    Args:
        judge: whose verdicts count; what else it can do, this one can.
        evaluations: how many verdicts, 0 or more; None: any number.
        minutes: for how long from now on, 0 or more; None: for ever. A verdict under way is waited for.
        clock: the time in seconds.

    Raises:
        UsageError: a budget below zero.
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
        self.judge = judge
        self.evaluations, self.minutes, self.clock = evaluations, minutes, clock
        self.asked, self.began = 0, clock()

    def __call__(self, state: "State", accept: Accept | None = None) -> Verdict:
        """The judge's verdict."""
        self.asked += 1
        return self.judge(state, accept)

    def __getattr__(self, name: str) -> Any:
        if name == "judge":  # Not set yet.
            raise AttributeError(name)
        value = getattr(self.judge, name)
        return self._counted if name == "together" else value

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        out_of_time = self.minutes is not None and self.clock() - self.began >= 60 * self.minutes
        return out_of_time or (self.evaluations is not None and self.asked >= self.evaluations)

    def _counted(
        self, kept: Sequence[Ingredient], candidates: Sequence[Ingredient], accept: Accept
    ) -> Generator[Verdict]:
        """`judge.together`, as far as the budget goes."""
        if self.evaluations is not None:
            candidates = candidates[: max(0, self.evaluations - self.asked)]
        verdicts = self.judge.together(kept, candidates, accept)  # type: ignore[attr-defined]
        try:
            while not self.spent and (verdict := next(verdicts, None)) is not None:
                self.asked += 1
                yield verdict
        finally:
            verdicts.close()


def is_spent(judge: Judge) -> bool:
    """Whether a recipe should ask this judge no more than it must; never for a judge without a budget."""
    return bool(getattr(judge, "spent", False))


def untried_option(untried: Sequence[str]) -> dict[str, list[str]]:
    """The entry of `Soup.options` on what the budget left untried; empty where it left nothing."""
    return {"untried": list(untried)} if untried else {}


def untried_text(untried: Sequence[str]) -> str:
    """The end of a summary on what the budget left untried; empty where it left nothing."""
    if not untried:
        return ""
    verb = "was" if len(untried) == 1 else "were"
    return f"; {len(untried)} more {verb} not tried, the budget was spent"
