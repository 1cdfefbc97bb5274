"""Time averaging against reading the bytes, and greedy that stops early against greedy that looks at all images."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import Field

import soups
from soups import cli
from soups.pipeline.judging import LazyJudge
from soups.pipeline.main import open_bench
from soups.pipeline.pool import pool_of
from soups.pipeline.settings import CommandSettings
from soups.recipes import RECIPES
from soups.recipes.pool import Accept, Judge, Pool, Soup, Verdict

if TYPE_CHECKING:
    from soups.recipes.pool import State


class BenchSettings(CommandSettings):
    """Time the two halves of souping.

    greedy: the soup of a run, full judgement of every candidate against stopping when rejection is certain; both soups
    are compared to the bit. averaging: generated checkpoints in a temporary folder, `soups.average` with hashes known
    against a loop over dictionaries as the original code has it, and against `cat`. What is compared takes turns, and
    each ratio comes from one turn.
    """

    parts: tuple[Literal["greedy", "averaging"], ...] = ("greedy", "averaging")
    """What to measure."""
    repeats: int = Field(default=5, gt=0)
    """Turns."""
    checkpoints: int = Field(default=8, gt=1)
    """How many files are averaged."""
    architecture: str = "ViT-B/32"
    """Of the averaged files: any architecture of open_clip or timm."""


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
    settings = given.settings
    if "greedy" in settings.parts:
        time_greedy(given)
    if "averaging" in settings.parts:
        with tempfile.TemporaryDirectory() as folder:
            time_averaging(make_checkpoints(Path(folder), settings), settings.repeats)


def make_checkpoints(folder: Path, settings: BenchSettings) -> list[Path]:
    """Files as fine-tunes of one start would be: its weights, each with its own noise."""
    import torch

    from soups.checkpoints import Card, write_checkpoint
    from soups.models.build import build_start
    from soups.models.settings import ModelSettings

    classes = tuple("abcdefghij")
    start = build_start(ModelSettings(model=settings.architecture, pretrained="none"), classes, seed=0)
    card = Card(kind="fine-tune", architecture=start.architecture, classes=classes, preprocessing=start.preprocessing)
    paths = [folder / f"model{number}.safetensors" for number in range(settings.checkpoints)]
    for number, path in enumerate(paths):
        generator = torch.Generator().manual_seed(number)
        state = {
            key: value + 0.01 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
            for key, value in start.classifier.state_dict().items()
        }
        write_checkpoint(path, state, card)
    return paths


def time_averaging(paths: Sequence[Path], repeats: int) -> None:
    """Three ways of going through the same files, in turns."""
    rows: dict[str, Callable[[], object]] = {
        "cat: reading the bytes": lambda: subprocess.run(["cat", *paths], stdout=subprocess.DEVNULL, check=True),
        "loop over dictionaries, fp32": lambda: dictionary_loop(paths),
        "soups.average, fp64, hashes known": lambda: soups.average(paths),
    }
    for row in rows.values():
        row()  # The files are in memory then, and their hashes known.
    turns = [[seconds(row) for row in rows.values()] for _ in range(repeats)]
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(f"averaging: {len(paths)} files, {megabytes:.0f} MB")
    for place, name in enumerate(rows):
        taken, ratios = [turn[place] for turn in turns], [turn[place] / turn[0] for turn in turns]
        print(
            f"  {name}: {median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f}), "
            f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) times cat"
        )


def dictionary_loop(paths: Sequence[Path]) -> object:
    """The uniform soup as the original model-soups code makes it: a running fp32 sum of scaled states."""
    from safetensors.torch import load_file

    soup = {key: value / len(paths) for key, value in load_file(paths[0]).items()}
    for path in paths[1:]:
        state = load_file(path)
        soup = {key: state[key] / len(paths) + soup[key] for key in soup}
    return soup


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def time_greedy(given: cli.Given[BenchSettings]) -> None:
    """The greedy soup of a run, both ways in turns."""
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
