"""A killed run goes on where its record ends."""

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


class Killed(Exception):
    pass


class Desk:
    """The log of a recipe, and who asks the judge how often; reads are counted too."""

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

    def run(self, die_after: int | None = None, budget: int | None = None) -> Soup:
        """Go on from the log; die when so many lines are written."""

        def write(line: dict[str, Any]) -> None:
            self.log.append(json.dumps({"request": "r", **line}, allow_nan=False))
            if len(self.log) == die_after:
                raise Killed

        def judge(state: Any, accept: Any = None) -> Verdict:
            self.calls += 1
            return self.judge(state, accept)

        replay = ReplayJudge(BudgetedJudge(judge, budget), [json.loads(line) for line in self.log])
        self.calls = self.reads = 0
        return RECIPES[self.name](self.pool, replay, on_decision=write, **self.options)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_killed_after_each_decision(name: str, toys: Any) -> None:
    for seed in range(8):
        pool, judge = toys.pool(seed)
        whole = Desk(name, pool, judge, OPTIONS[name])
        soup = whole.run()
        for lines in range(1, len(whole.log) + 1):
            desk = Desk(name, pool, judge, OPTIONS[name])
            with pytest.raises(Killed):
                desk.run(die_after=lines)
            again = desk.run()
            assert all(torch.equal(again.state[key], soup.state[key]) for key in soup.state)
            assert [part.name for part in again.ingredients] == [part.name for part in soup.ingredients]
            assert (again.score, again.options, again.summary) == (soup.score, soup.options, soup.summary)
            assert again.decisions == soup.decisions
            assert desk.log == whole.log  # Each line once.
            assert desk.calls <= len(whole.log) - lines + 1  # The finished soup once more where its bits are new.


def test_killed_again_and_again(toys: Any) -> None:
    for name, options in OPTIONS.items():
        pool, judge = toys.pool(4)
        whole, desk = Desk(name, pool, judge, options), Desk(name, pool, judge, options)
        soup = whole.run()
        for lines in range(1, len(whole.log) + 1):
            with pytest.raises(Killed):
                desk.run(die_after=lines)
        assert desk.run().decisions == soup.decisions and desk.log == whole.log


def test_what_is_on_record_is_neither_read_nor_judged_nor_paid_for(toys: Any) -> None:
    far = [9.0] * toys.images
    parts = [toys.named(f"m{i}", [0.0] * toys.images if i == 0 else far, toys.zero) for i in range(6)]
    desk = Desk("greedy", Pool(tuple(parts)), toys.zero, {})
    with pytest.raises(Killed):
        desk.run(die_after=5)
    soup = desk.run(budget=1)
    assert len(soup.decisions) == 6 and "untried" not in soup.options
    assert (desk.calls, desk.reads) == (1, 2)  # The soup so far and the last candidate.
    desk.run(budget=0)
    assert (desk.calls, desk.reads) == (0, 1)


def test_a_record_that_goes_on_differently_is_left_alone(toys: Any, caplog: pytest.LogCaptureFixture) -> None:
    parts = [toys.named(letter, [0.0] * toys.images, toys.zero) for letter in "abc"]
    desk = Desk("greedy", Pool(tuple(parts)), toys.zero, {})
    soup = desk.run()
    record = [json.loads(line) for line in desk.log]
    record[1]["candidate"] = "somebody"
    desk.log = [json.dumps(line) for line in record]
    with caplog.at_level(logging.WARNING):
        again = desk.run()
    assert "goes on with somebody where b is next: judging anew from here on" in caplog.text
    assert again.decisions == soup.decisions and len(desk.log) == 5 and desk.calls == 2
    old = [{key: value for key, value in line.items() if key != "log_loss"} for line in record]
    assert ReplayJudge(toys.zero, old).next_decision("a") is None
