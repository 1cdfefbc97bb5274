"""The log of a recipe's decisions: its records, packed outcomes, and the replay of an earlier run's records."""

import base64
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from soups.recipes.shared.acceptance import count_gains
from soups.recipes.shared.pool import Judge, OnDecision, Verdict

DECISION_KEYS = (
    *("candidate", "accepted", "score", "incumbent", "errors", "images", "complete"),
    *("gained", "lost", "log_loss", "why", "outcome"),
)
"""Keys of every decision record; see `DecisionLog.add`."""
MEMORY_KEY = "memory"
"""Optional key of a decision record: the recipe's own state, from which a later run resumes."""


class DecisionLog:
    """Collects a recipe's decision records, passes each new one to `on_decision`, and replays recorded ones.

    Args:
        judge: a judge that may have the records of an earlier run; see `resume.ReplayJudge`.
        on_decision: called with each decision that is not replayed.
    """

    def __init__(self, judge: Judge | None, on_decision: OnDecision | None) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.judge, self.on_decision = judge, on_decision

    def replay(self, candidate: str) -> tuple[bool, Verdict] | None:
        """Add the recorded decision on this candidate; return whether it was accepted, and its verdict.

        The verdict has an outcome only if the candidate was accepted. None: the judge has no record.
        """
        next_decision = getattr(self.judge, "next_decision", None)
        line = None if next_decision is None else next_decision(candidate)
        if line is None:
            return None
        self.decisions.append(line)
        score, loss = (math.nan if line[key] is None else line[key] for key in ("score", "log_loss"))
        outcome = None if line["outcome"] is None else unpack_outcome(line["outcome"], line["images"])
        return line["accepted"], Verdict(score, line["errors"], line["images"], line["complete"], loss, outcome)

    def add(
        self, candidate: str, accepted: bool, verdict: Verdict, incumbent: Verdict | float, why: str, memory: Any = None
    ) -> None:
        """Add one record as plain JSON; numbers that are not finite become None.

        Its keys are `candidate`, `accepted`, `score` (of the soup with the candidate), `incumbent`, `errors` and
        `images` (wrong and judged images), `complete` (False if the judge stopped early; score and log-loss are then
        the best that was still possible), `gained` and `lost` (images on which the two differ), `log_loss`, `why`,
        `outcome` (of an accepted candidate, see `pack_outcome`; a later run resumes from it), and perhaps `memory`.

        Args:
            candidate: name.
            accepted: whether the candidate was accepted.
            verdict: of the soup with the candidate.
            incumbent: verdict of the incumbent; a bare score leaves gained and lost images open.
            why: reason in words.
            memory: the recipe's own state as plain JSON, from which a later run resumes.
        """
        gains = count_gains(verdict, incumbent) if isinstance(incumbent, Verdict) else None
        gained, lost = gains or (None, None)
        outcome = verdict.outcome if accepted and verdict.complete else None
        record = {
            "candidate": candidate,
            "accepted": bool(accepted),
            "score": _finite_or_none(verdict.score),
            "incumbent": _finite_or_none(incumbent.score if isinstance(incumbent, Verdict) else incumbent),
            "errors": verdict.errors,
            "images": verdict.images,
            "complete": verdict.complete,
            "gained": gained,
            "lost": lost,
            "log_loss": _finite_or_none(verdict.log_loss),
            "why": why,
            "outcome": None if outcome is None else pack_outcome(outcome),
        }
        self.decisions.append(record if memory is None else {**record, MEMORY_KEY: memory})
        if self.on_decision is not None:
            self.on_decision(self.decisions[-1])

    def accept(
        self, candidate: str, get_verdict: Callable[[], Verdict], why: str, incumbent: float | None = None
    ) -> Verdict:
        """Add the decision on a candidate that is accepted whatever its score; return its verdict.

        Args:
            candidate: name.
            get_verdict: called unless there is a recorded decision.
            why: reason in words.
            incumbent: score of the incumbent; None: the candidate's own.
        """
        if (recorded := self.replay(candidate)) is not None:
            return recorded[1]
        verdict = get_verdict()
        self.add(candidate, True, verdict, verdict.score if incumbent is None else incumbent, why)
        return verdict


def pack_outcome(outcome: np.ndarray) -> str:
    """Encode a complete outcome as text: one bit an image, zlib-compressed, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(outcome == 1).tobytes(), 9)).decode("ascii")


def unpack_outcome(text: str, images: int) -> np.ndarray:
    """Decode the text of `pack_outcome` to an (N,) int8 outcome of `images` images."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(bits, count=images).astype(np.int8)


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
