"""Time the greedy soup of a run with a judge that stops early against one that looks at all images."""

import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import Field

from soups import cli
from soups.pipeline.main import open_bench
from soups.pipeline.settings import CommandSettings
from soups.pipeline.soup import LazyJudge, pool_of
from soups.recipes import RECIPES
from soups.recipes.pool import Accept, Judge, Pool, Soup, Verdict

if TYPE_CHECKING:
    from soups.recipes.pool import State


class BenchSettings(CommandSettings):
    """Time the greedy soup of a run: full judgement of every candidate against stopping when rejection is certain.

    The two take turns, each ratio comes from one turn, and their soups are compared to the bit.
    """

    repeats: int = Field(default=5, gt=0)
    """Turns."""


class Unhurried:
    """A judge that is never told what would be accepted, and so looks at all images."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(self, state: "State", accept: Accept | None = None) -> Verdict:
        """The whole verdict."""
        return self.judge(state)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return cli.run(BenchSettings, command, argv)


def command(given: cli.Given[BenchSettings]) -> None:
    """Measure and print."""
    bench = open_bench(given.settings, given.names)
    pool, _ = pool_of(bench)
    judge = LazyJudge(bench)
    judge(pool.ingredients[0].load())  # Imports, images and memory are no part of what is compared.
    turns = [(timed(pool, Unhurried(judge)), timed(pool, judge)) for _ in range(given.settings.repeats)]
    (_, whole), (_, stopped) = turns[0]
    ratios = [stopping / full for (full, _), (stopping, _) in turns]
    rejected = [line["images"] / whole.decisions[0]["images"] for line in stopped.decisions if not line["accepted"]]
    accepted = sum(line["accepted"] for line in stopped.decisions)
    images = [sum(line["images"] for line in soup.decisions) for soup in (whole, stopped)]
    print(f"run {bench.run.name}: {len(pool.ingredients)} models, {whole.decisions[0]['images']} validation images")
    print(f"accepted: {accepted} of {len(stopped.decisions)} by {bench.evaluation.metric}")
    print(f"same ingredients and bits: {'yes' if same(whole, stopped) else 'NO'}")
    if rejected:
        print(f"images seen of the rejected: median {100 * median(rejected):.1f}%, most {100 * max(rejected):.1f}%")
    print(f"images judged in all: {images[1]} against {images[0]} ({images[0] / images[1]:.1f} times fewer)")
    print(
        f"time, stopping against full: median {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"{median(stopping for _, (stopping, _) in turns):.2f} s against {median(full for (full, _), _ in turns):.2f} s"
    )


def timed(pool: Pool, judge: Judge) -> tuple[float, Soup]:
    """Seconds and soup."""
    began = time.perf_counter()
    soup = RECIPES["greedy"](pool, judge)
    return time.perf_counter() - began, soup


def same(one: Soup, other: Soup) -> bool:
    """Whether two soups have the same ingredients and equal tensors."""
    equal = all(bool((one.state[key] == other.state[key]).all()) for key in one.state)
    return one.ingredients == other.ingredients and equal


if __name__ == "__main__":
    raise SystemExit(main())
