"""The decision log: its records are plain JSON, and a later run replays them."""

import json
import math
from typing import Any

import numpy as np

from soups.recipes.shared.decisions import DECISION_KEYS, DecisionLog, pack_outcome, unpack_outcome
from soups.recipes.shared.pool import Verdict
from soups.recipes.shared.resume import ReplayJudge


def test_outcomes_survive_packing() -> None:
    generator = np.random.default_rng(0)
    for images in (1, 7, 8, 1497):
        outcome = generator.integers(0, 2, images).astype(np.int8)
        back = unpack_outcome(pack_outcome(outcome), images)
        assert back.dtype == np.int8 and np.array_equal(back, outcome)
    assert len(pack_outcome((generator.random(1497) > 0.05).astype(np.int8))) < 300


def judge(state: Any, accept: Any = None) -> Verdict:
    raise AssertionError("a recorded decision is not judged")


def test_recorded_decisions_are_replayed_without_a_call() -> None:
    written: list[dict] = []
    outcome = np.array([1, 0, 1], dtype=np.int8)
    first = Verdict(2 / 3, 1, 3, log_loss=math.nan, outcome=outcome)
    second = Verdict(1 / 3, 2, 2, False, 0.5, np.array([0, 0, -1], dtype=np.int8))
    log = DecisionLog(None, written.append)
    assert log.accept("a", lambda: first, "the first") is first
    log.add("b", False, second, first, "worse", memory=[1.5])
    assert log.decisions == written and list(written[0]) == list(DECISION_KEYS)
    assert written[0]["incumbent"] == 2 / 3 and written[0]["log_loss"] is None and written[0]["gained"] is None
    assert (written[1]["gained"], written[1]["lost"], written[1]["outcome"]) == (0, 1, None)

    later = DecisionLog(ReplayJudge(judge, json.loads(json.dumps(written, allow_nan=False))), written.append)
    again = later.accept("a", lambda: judge(None), "the first")
    assert (again.score, again.errors, again.images) == (2 / 3, 1, 3) and math.isnan(again.log_loss)
    assert again.outcome is not None and again.outcome.tolist() == [1, 0, 1]
    assert later.replay("b") == (False, Verdict(1 / 3, 2, 2, False, 0.5))
    assert later.replay("c") is None
    assert later.decisions == log.decisions and len(written) == 2
