"""Going on where a killed run ended: verdicts come from its record as far as that goes."""

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from soups.recipes.shared.pool import DECISION_KEYS, MEMORY, Accept, Judge, Verdict, unpack_outcome

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

logger = logging.getLogger(__name__)


class Replay:
    """A judge that remembers the decisions of an earlier run of the same request.

    A recipe asks `recall_decision(judge, candidate)` before it makes a candidate: a decision on record is taken
    over without reading, averaging or judging anything. Recipes ask in the same order every time, so the record is
    a prefix; where it is not (other code, another record), the rest of it is left alone, with a notice. Recipes
    that don't ask are judged as ever.

    Args:
        judge: gives the verdicts that are not on record; what else it can do, this one can.
        lines: decisions as `pool.decision` made them, in order; other keys in them are dropped. A line that lacks a
            key (from an older version) ends the record.
    """

    def __init__(self, judge: Judge, lines: Sequence[dict[str, Any]]) -> None:
        self.judge = judge
        self.lines: list[dict[str, Any]] = []
        for line in lines:
            if not line.keys() >= set(DECISION_KEYS):
                break
            self.lines.append({key: line[key] for key in (*DECISION_KEYS, MEMORY) if key in line})
        self.position = 0

    def __call__(self, state: "State", accept: Accept | None = None) -> Verdict:
        """The judge's verdict."""
        return self.judge(state, accept)

    def __getattr__(self, name: str) -> Any:
        if name == "judge":  # Not set yet.
            raise AttributeError(name)
        return getattr(self.judge, name)

    def recall(self, candidate: str) -> dict[str, Any] | None:
        """The next decision on record, if it is on this candidate; each is given once."""
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


def recall_decision(judge: Judge | None, candidate: str) -> dict[str, Any] | None:
    """The decision on this candidate, where the judge has a record of an earlier run that goes on with it."""
    recall = getattr(judge, "recall", None)
    return None if recall is None else recall(candidate)


def verdict_of(line: dict[str, Any]) -> Verdict:
    """The verdict that a decision tells of; the outcome by image only where the candidate was accepted."""
    score, loss = (math.nan if line[key] is None else line[key] for key in ("score", "log_loss"))
    outcome = None if line["outcome"] is None else unpack_outcome(line["outcome"], line["images"])
    return Verdict(score, line["errors"], line["images"], line["complete"], loss, outcome)
