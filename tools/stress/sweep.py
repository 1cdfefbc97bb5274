"""The toy sweep: images, commands and expected files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from soups.files.atomic import atomic_write
from tools.stress.commands import Command

_COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
_PEOPLE, _TEST_PEOPLE, _IMAGES, _NOISE = 4, 2, 3, 140
_TIMED = {"images_per_second", "seconds", "file"}
"""Fields of log lines that depend on the machine's speed or on the folder of the sweep."""
_NOT_CONTENT = {".lock", ".jsonl"}


def make_images(folder: Path) -> None:
    """Write noisy 16 × 16 pictures of three colours, of six people: `train/<colour>/p<person>_<n>.png`, `test/…`."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, colour in _COLOURS.items():
        for person in range(_PEOPLE + _TEST_PEOPLE):
            for number in range(_IMAGES):
                pixels = np.array(colour) + generator.integers(-_NOISE, _NOISE, (16, 16, 3))
                path = folder / ("train" if person < _PEOPLE else "test") / name / f"p{person}_{number}.png"
                with atomic_write(path) as temporary:
                    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(temporary, format="png")


def sweep_commands(images: Path, models: int) -> list[Command]:
    """Return the commands of the whole sweep, in order."""
    data = ("--data-location", str(images), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5")
    network = ("--model", "baseline", "--model-args", "widths=[8,16]", "--image-size", "16")
    training = ("--batch-size", "4", "--hparams", "random", "--lr-range", "3e-3", "3e-2", "--epochs-range", "2", "3")
    same = ("--precision", "fp32", "--threads", "1")
    name = ("--name", "toys")
    # Saves the state so often that many kills interrupt a save.
    trials = ("--i", f"0-{models - 1}", "--save-minutes", "0.005")
    soups = ("--uniform-soup", "--greedy-soup", "--soup", "learned")
    return [
        Command("training", "finetune.py", (*name, *data, *network, *same, *training, *trials)),
        Command("evaluating", "main.py", (*name, "--eval-individual-models")),
        Command("souping", "main.py", (*name, *soups)),
        Command("predicting", "inference.py", name),
        Command("predicting", "inference.py", (*name, "--soft-voting")),
    ]


def read_contents(run: Path) -> dict[str, Any]:
    """Return file → content of a finished sweep: bytes, or log lines without order, repetitions and times."""
    contents: dict[str, Any] = {}
    for path in list_files(run):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".jsonl":
            contents[name] = set(_comparable_lines(path))
        elif path.suffix not in _NOT_CONTENT and path.parent.name != ".locks":
            contents[name] = path.read_bytes()
    return contents


def list_files(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted; files may change meanwhile."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _comparable_lines(log: Path) -> Iterator[str]:
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield json.dumps({key: value for key, value in record.items() if key not in _TIMED}, sort_keys=True)


def find_differences(contents: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what is missing, extra or different in a sweep."""
    problems = [f"{name} is missing" for name in expected.keys() - contents.keys()]
    problems += [f"{name} is left over" for name in contents.keys() - expected.keys()]
    problems += [
        f"{name} is different" for name in expected.keys() & contents.keys() if contents[name] != expected[name]
    ]
    return sorted(problems)
