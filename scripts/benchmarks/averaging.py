"""Benchmark of souping: averaging against reading the bytes, commands against other tools, greedy stopping early."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import Field

import soups
from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError
from soups.core.processors import available_cores
from soups.data.settings import DataSettings
from soups.models.settings import ModelSettings
from soups.pipeline.run.run_settings import RecordedSettings, record_run
from soups.pipeline.score.context import open_context
from soups.pipeline.settings.commands import CommandSettings
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Accept, Judge, Pool, Soup, Verdict

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

ROOT = Path(__file__).resolve().parents[2]


class BenchSettings(CommandSettings):
    """Time souping: averaging, a whole command, and greedy with early stopping.

    averaging: generated checkpoints in a temporary folder; `soups.average` with cached hashes against a loop over
    dictionaries like the original code's, and against `cat`. process: `main.py --uniform-soup --scores False` on such
    files, with the result saved and synced, against whole processes that do the same like timm's `avg_checkpoints.py`
    and like mergekit. greedy: the soup of a run; full judgement of every candidate against stopping when rejection is
    certain; both soups are compared bit for bit. The rows take turns, and each ratio comes from one turn.
    """

    parts: tuple[Literal["averaging", "process", "greedy"], ...] = ("averaging", "process", "greedy")
    """What to measure."""
    repeats: int = Field(default=5, gt=0)
    """Number of turns."""
    checkpoints: int = Field(default=8, gt=1)
    """Number of averaged files."""
    architecture: str = "ViT-B/32"
    """Architecture of the averaged files: any of open_clip or timm."""
    mergekit: str | None = None
    """The program `mergekit-pytorch` of an environment that has it, to be timed too."""


class FullJudge:
    """A judge without an acceptance threshold, which therefore scores all images."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(self, state: "State", accept: Accept | None = None) -> Verdict:
        """Return the verdict on all images."""
        return self.judge(state)


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(BenchSettings, command, argv)


def command(parsed: ParsedSettings[BenchSettings]) -> None:
    """Measure and print."""
    settings = parsed.settings
    if {"averaging", "process"} & set(settings.parts):
        with tempfile.TemporaryDirectory() as folder:
            paths = make_checkpoints(Path(folder) / "runs" / "bench", settings)
            megabytes = sum(path.stat().st_size for path in paths) / 1e6
            print(f"{len(paths)} files of {settings.architecture}, {megabytes:.0f} MB")
            if "averaging" in settings.parts:
                time_averaging(paths, settings.repeats)
            if "process" in settings.parts:
                time_processes(paths, Path(folder), settings)
    if "greedy" in settings.parts:
        time_greedy(parsed)


def make_checkpoints(folder: Path, settings: BenchSettings) -> list[Path]:
    """Make a run's folder with files like fine-tunes of one start: its weights plus independent noise."""
    import torch

    from soups.checkpoints.card import Card
    from soups.checkpoints.checkpoint import write_checkpoint
    from soups.models.build import build_start

    model = ModelSettings(model=settings.architecture, pretrained="none")
    record_run(
        folder,
        RecordedSettings(
            data=DataSettings(), model=model, metric="accuracy", precision="fp32", threads=available_cores()
        ),
    )
    classes = tuple("abcdefghij")
    start = build_start(model, classes, seed=0)
    paths = [folder / "models" / f"bench{number}_epochs1.safetensors" for number in range(settings.checkpoints)]
    for number, path in enumerate(paths):
        generator = torch.Generator().manual_seed(number)
        state = {
            key: value + 0.01 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
            for key, value in start.classifier.state_dict().items()
        }
        card = Card(
            kind="fine-tune",
            architecture=start.architecture,
            classes=classes,
            preprocessing=start.preprocessing,
            training={"index": number, "epochs": 1},
        )
        write_checkpoint(path, state, card)
    return paths


def time_averaging(paths: Sequence[Path], repeats: int) -> None:
    """Time three ways of reading the same files, in turns."""
    rows: dict[str, Callable[[], object]] = {
        "cat: reading the bytes": lambda: subprocess.run(["cat", *paths], stdout=subprocess.DEVNULL, check=True),
        "loop over dictionaries, fp32": lambda: dictionary_loop(paths),
        "soups.average, fp64, hashes known": lambda: soups.average(paths),
    }
    for row in rows.values():
        row()  # After this the files are in memory and their hashes cached.
    print_turns("averaging", list(rows), [[seconds(row) for row in rows.values()] for _ in range(repeats)], "cat")


def print_turns(title: str, names: Sequence[str], turns: Sequence[Sequence[float]], first: str) -> None:
    """Print the seconds of each row, and its ratio to the first row of the same turn: median and range."""
    print(title)
    for column, name in enumerate(names):
        times, ratios = [turn[column] for turn in turns], [turn[column] / turn[0] for turn in turns]
        print(
            f"  {name}: {median(times):.2f} s ({min(times):.2f} to {max(times):.2f}), "
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times {first}"
        )


TIMM_MANNER = """
import sys
import safetensors.torch
import torch
from timm.models import load_state_dict

total, count = {}, {}
for path in sys.argv[2:]:
    for key, value in load_state_dict(path).items():
        if key in total:
            total[key] += value.to(torch.float64)
            count[key] += 1
        else:
            total[key], count[key] = value.clone().to(torch.float64), 1
limit = torch.finfo(torch.float32)
mean = {key: (value / count[key]).clamp(limit.min, limit.max).to(torch.float32) for key, value in total.items()}
safetensors.torch.save_file(mean, sys.argv[1])
"""
"""A uniform soup like timm's avg_checkpoints.py, which no package contains."""


def time_processes(paths: Sequence[Path], folder: Path, settings: BenchSettings) -> None:
    """Time whole processes from the same files to a soup on the disk, in turns."""
    runs, soup = paths[0].parents[2], paths[0].parent / "bench_uniform_soup.safetensors"
    ours = [sys.executable, str(ROOT / "main.py"), "--runs-folder", str(runs), "--name", "bench"]
    ours += ["--uniform-soup", "--scores", "False"]
    rows: dict[str, tuple[list[str], Path, Path | None]] = {
        "main.py --uniform-soup --scores False, hashes known": (ours, soup, folder / "cache"),
        "the same, hashes computed": (ours, soup, None),
        "in the manner of timm's script": (
            [sys.executable, "-c", TIMM_MANNER, str(folder / "timm.safetensors"), *map(str, paths)],
            folder / "timm.safetensors",
            folder / "cache",
        ),
    }
    if settings.mergekit is not None:
        recipe = folder / "mergekit.yaml"
        models = "".join(f"  - model: {path}\n    parameters: {{weight: 1.0}}\n" for path in paths)
        recipe.write_text(f"merge_method: linear\nmodels:\n{models}dtype: float32\n", encoding="utf-8")
        merged = folder / "mergekit" / "model.safetensors"
        rows["mergekit, linear"] = ([settings.mergekit, str(recipe), str(merged.parent)], merged, folder / "cache")
    turns, memory = [], dict.fromkeys(rows, 0.0)
    for turn in range(settings.repeats + 1):
        times = []
        for number, (name, (arguments, result, cache)) in enumerate(rows.items()):
            result.unlink(missing_ok=True)
            took, peak = whole_process(arguments, result, cache or folder / f"cache-{turn}-{number}")
            times.append(took)
            memory[name] = max(memory[name], peak)
        turns.append(times)
    # The first turn loads the files into memory and their hashes into the cache.
    print_turns("whole process, result on the disk", list(rows), turns[1:], "the first")
    model = paths[0].stat().st_size
    for name, peak in memory.items():
        print(f"  {name}: peak private memory {peak / 1e6:.0f} MB, {peak / model:.2f} models")


def whole_process(arguments: Sequence[str], result: Path, cache: Path) -> tuple[float, float]:
    """Return the seconds from the start until the result is on the disk, and the peak private memory in bytes."""
    began, peak = time.perf_counter(), 0
    environment = {**os.environ, "SOUPS_CACHE": str(cache)}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, private_memory(process.pid))
            time.sleep(0.002)
    if process.returncode:
        raise DataError(f"{arguments[0]}: ended with {process.returncode}", next_step="run it by itself to see why")
    with result.open("rb") as stream:
        os.fsync(stream.fileno())  # Ours is synced already; the others leave it to the system.
    return time.perf_counter() - began, peak


def private_memory(pid: int) -> int:
    """Return the bytes of a process that no file backs; 0 where the system does not report them."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def dictionary_loop(paths: Sequence[Path]) -> object:
    """Make the uniform soup like the original model-soups code: a running fp32 sum of scaled states."""
    from safetensors.torch import load_file

    soup = {key: value / len(paths) for key, value in load_file(paths[0]).items()}
    for path in paths[1:]:
        state = load_file(path)
        soup = {key: state[key] / len(paths) + soup[key] for key in soup}
    return soup


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def time_greedy(parsed: ParsedSettings[BenchSettings]) -> None:
    """Time greedy with full judgement, greedy with early stopping and the learned soup of a run, in turns."""
    context = open_context(parsed.settings, parsed.names)
    pool, card = pool_of(context)
    judge = LazyJudge(context, (pool, card))
    # Like the original code: every candidate is judged on all images, the best single model too.
    unknown = Pool(tuple(replace(ingredient, known_verdict=None) for ingredient in pool.ingredients), pool.start)
    judge(pool.ingredients[0].load())  # Excludes imports, image decoding and memory allocation from the comparison.
    rows: list[tuple[str, Pool, Judge]] = [
        ("greedy", unknown, FullJudge(judge)),
        ("greedy", pool, judge),
        ("learned", pool, judge),
    ]
    turns = [[time_recipe(*row) for row in rows] for _ in range(parsed.settings.repeats)]
    whole, stopped = turns[0][0][1], turns[0][1][1]
    print(f"run {context.run.name}: {len(pool.ingredients)} models, {whole.decisions[0]['images']} validation images")
    print_saved_images(whole, stopped, context.evaluation.metric)
    names = ["greedy, every candidate in full", "greedy that stops", "learned"]
    seconds_only = [[times for times, _ in turn] for turn in turns]
    print_turns("time of the recipe, everything loaded", names, seconds_only, "full greedy")


def print_saved_images(whole: Soup, stopped: Soup, metric: str) -> None:
    """Print how many images early stopping saved, and whether it changed the soup."""
    rejected = [line["images"] / whole.decisions[0]["images"] for line in stopped.decisions if not line["accepted"]]
    # The score of the first model comes from the logs.
    images = [sum(line["images"] for line in lines) for lines in (whole.decisions, stopped.decisions[1:])]
    print(f"accepted: {len(stopped.decisions) - len(rejected)} of {len(stopped.decisions)} by {metric}")
    print(f"same ingredients and bits: {'yes' if are_equal(whole, stopped) else 'NO'}")
    if rejected:
        print(f"images seen of the rejected: median {100 * median(rejected):.1f}%, most {100 * max(rejected):.1f}%")
    print(f"images judged in all: {images[1]} against {images[0]} ({images[0] / max(1, images[1]):.1f} times fewer)")


def time_recipe(recipe: str, pool: Pool, judge: Judge) -> tuple[float, Soup]:
    """Return the seconds of a recipe and its soup."""
    began = time.perf_counter()
    options = {"accept": "equal"} if recipe == "greedy" else {}
    soup = RECIPES[recipe](pool, judge, **options)
    return time.perf_counter() - began, soup


def are_equal(one: Soup, other: Soup) -> bool:
    """Return whether two soups have the same ingredients and equal tensors."""
    equal = all(bool((one.state[key] == other.state[key]).all()) for key in one.state)
    hashes = [[ingredient.sha256 for ingredient in soup.ingredients] for soup in (one, other)]
    return hashes[0] == hashes[1] and equal


if __name__ == "__main__":
    raise SystemExit(main())
