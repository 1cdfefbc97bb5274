"""Resuming a recipe: a judge that replays the decisions of an interrupted run from its log."""

import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from soups.recipes.shared.decisions import DECISION_KEYS, MEMORY_KEY
from soups.recipes.shared.pool import Judge, WrappedJudge

logger = logging.getLogger(__name__)


class ReplayJudge(WrappedJudge):
    """A judge that replays the decisions of an earlier run of the same request.

    A recipe calls `DecisionLog.replay` before it makes a candidate. A recorded decision is taken over without reading,
    averaging or judging anything. Recipes call in the same order every time, so the record is a prefix; if it is not
    (other code, another record), the rest of the record is ignored, with a notice. Recipes that do not call it are
    judged as usual.

    Args:
        judge: gives the verdicts that are not recorded; its other attributes are forwarded.
        lines: records of `DecisionLog.add`, in order; other keys are dropped. A line that lacks a key (from an
            older version) ends the record.
    """

    def __init__(self, judge: Judge, lines: Sequence[dict[str, Any]]) -> None:
        super().__init__(judge)
        complete = takewhile(lambda line: line.keys() >= set(DECISION_KEYS), lines)
        self.lines = [{key: line[key] for key in (*DECISION_KEYS, MEMORY_KEY) if key in line} for line in complete]
        self.position = 0

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
