"""Resuming a recipe: a judge that replays the decisions of an interrupted run from its log."""

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from soups.recipes.shared.pool import DECISION_KEYS, MEMORY_KEY, Accept, Judge, Verdict, unpack_outcome

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

logger = logging.getLogger(__name__)


class ReplayJudge:
    """A judge that replays the decisions of an earlier run of the same request.

    A recipe calls `recorded_decision(judge, candidate)` before it makes a candidate. A recorded decision is taken over
    without reading, averaging or judging anything. Recipes call in the same order every time, so the record is a
    prefix; if it is not (other code, another record), the rest of the record is ignored, with a notice. Recipes that do
    not call it are judged as usual.

    Args:
        judge: gives the verdicts that are not recorded; its other attributes are forwarded.
        lines: records of `pool.decision_record`, in order; other keys are dropped. A line that lacks a key (from an
            older version) ends the record.
    """

    def __init__(self, judge: Judge, lines: Sequence[dict[str, Any]]) -> None:
        self.judge = judge
        self.lines: list[dict[str, Any]] = []
        for line in lines:
            if not line.keys() >= set(DECISION_KEYS):
                break
            self.lines.append({key: line[key] for key in (*DECISION_KEYS, MEMORY_KEY) if key in line})
        self.position = 0

    def __call__(self, state: "State", accept: Accept | None = None) -> Verdict:
        """Return the judge's verdict."""
        return self.judge(state, accept)

    def __getattr__(self, name: str) -> Any:
        if name == "judge":  # Unpickling asks before `__init__` has run.
            raise AttributeError(name)
        return getattr(self.judge, name)

    def next_decision(self, candidate: str) -> dict[str, Any] | None:
        """Return the next recorded decision if it is on this candidate, and advance; else None."""
        if self.position == len(self.lines):
            return None
        line = self.lines[self.position]
        if line["candidate"] != candidate:
            logger.warning(
                "the record of an earlier run goes on with %s where %s is next: judging anew from here on",
                line["candidate"],
                candidate,
            )
            del self.lines[self.position :]
            return None
        self.position += 1
        return line


def recorded_decision(judge: Judge | None, candidate: str) -> dict[str, Any] | None:
    """Return the recorded decision on this candidate; None if the judge has none."""
    next_decision = getattr(judge, "next_decision", None)
    return None if next_decision is None else next_decision(candidate)


def verdict_from_decision(line: dict[str, Any]) -> Verdict:
    """Return the verdict that a decision record holds; it has an outcome only if the candidate was accepted."""
    score, loss = (math.nan if line[key] is None else line[key] for key in ("score", "log_loss"))
    outcome = None if line["outcome"] is None else unpack_outcome(line["outcome"], line["images"])
    return Verdict(score, line["errors"], line["images"], line["complete"], loss, outcome)
