"""An interrupted recipe resumes where its record ends."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from soups.recipes.registry import RECIPES
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.pool import Pool, Soup, Verdict
from soups.recipes.shared.resume import ReplayJudge

OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"accept": "significant", "level": 0.6},
    "greedy_log_loss": {},
    "pruned": {},
    "top_k": {},
    "uniform": {},
}


class Interrupted(Exception):
    pass


class LoggedRun:
    """A recipe with its log; counts verdicts and reads of ingredients."""

    def __init__(self, name: str, pool: Pool, judge: Any, options: dict[str, Any]) -> None:
        self.name, self.judge, self.options = name, judge, options
        self.log: list[str] = []
        self.calls = self.reads = 0
        self.pool = Pool(tuple(replace(part, load=self._reader(part)) for part in pool.ingredients))

    def _reader(self, part: Any) -> Any:
        def load() -> Any:
            self.reads += 1
            return part.load()

        return load

    def run(self, stop_after: int | None = None, budget: int | None = None) -> Soup:
        """Resume from the log; raise after `stop_after` lines."""

        def write(line: dict[str, Any]) -> None:
            self.log.append(json.dumps({"request": "r", **line}, allow_nan=False))
            if len(self.log) == stop_after:
                raise Interrupted

        def judge(state: Any, accept: Any = None) -> Verdict:
            self.calls += 1
            return self.judge(state, accept)

        replay = ReplayJudge(BudgetedJudge(judge, budget), [json.loads(line) for line in self.log])
        self.calls = self.reads = 0
        return RECIPES[self.name](self.pool, replay, on_decision=write, **self.options)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_run_interrupted_after_any_decision_gives_the_same_soup(name: str, toys: Any) -> None:
    for seed in range(8):
        pool, judge = toys.pool(seed)
        whole = LoggedRun(name, pool, judge, OPTIONS[name])
        soup = whole.run()
        for lines in range(1, len(whole.log) + 1):
            logged = LoggedRun(name, pool, judge, OPTIONS[name])
            with pytest.raises(Interrupted):
                logged.run(stop_after=lines)
            again = logged.run()
            assert all(torch.equal(again.state[key], soup.state[key]) for key in soup.state)
            assert [part.name for part in again.ingredients] == [part.name for part in soup.ingredients]
            assert (again.score, again.options, again.summary) == (soup.score, soup.options, soup.summary)
            assert again.decisions == soup.decisions
            assert logged.log == whole.log  # Each line once.
            assert logged.calls <= len(whole.log) - lines + 1  # The finished soup once more where its bits are new.


def test_a_run_interrupted_many_times_gives_the_same_soup(toys: Any) -> None:
    for name, options in OPTIONS.items():
        pool, judge = toys.pool(4)
        whole, logged = LoggedRun(name, pool, judge, options), LoggedRun(name, pool, judge, options)
        soup = whole.run()
        for lines in range(1, len(whole.log) + 1):
            with pytest.raises(Interrupted):
                logged.run(stop_after=lines)
        assert logged.run().decisions == soup.decisions and logged.log == whole.log


def test_recorded_decisions_need_no_read_no_verdict_and_no_budget(toys: Any) -> None:
    far = [9.0] * toys.images
    parts = [toys.named(f"m{i}", [0.0] * toys.images if i == 0 else far, toys.zero) for i in range(6)]
    logged = LoggedRun("greedy", Pool(tuple(parts)), toys.zero, {})
    with pytest.raises(Interrupted):
        logged.run(stop_after=5)
    soup = logged.run(budget=1)
    assert len(soup.decisions) == 6 and "untried" not in soup.options
    assert (logged.calls, logged.reads) == (1, 2)  # The soup so far and the last candidate.
    logged.run(budget=0)
    assert (logged.calls, logged.reads) == (0, 1)


def test_a_record_with_other_candidates_is_ignored(toys: Any, caplog: pytest.LogCaptureFixture) -> None:
    parts = [toys.named(letter, [0.0] * toys.images, toys.zero) for letter in "abc"]
    logged = LoggedRun("greedy", Pool(tuple(parts)), toys.zero, {})
    soup = logged.run()
    record = [json.loads(line) for line in logged.log]
    record[1]["candidate"] = "other"
    logged.log = [json.dumps(line) for line in record]
    with caplog.at_level(logging.WARNING):
        again = logged.run()
    assert "goes on with other where b is next: judging anew from here on" in caplog.text
    assert again.decisions == soup.decisions and len(logged.log) == 5 and logged.calls == 2
    old = [{key: value for key, value in line.items() if key != "log_loss"} for line in record]
    assert ReplayJudge(toys.zero, old).next_decision("a") is None
