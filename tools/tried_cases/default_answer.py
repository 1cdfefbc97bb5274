"""Which model answers by default."""

import json
from pathlib import Path

from tools.tried_cases.case import TINY, Case, draw, draw_classes, run_here

POOL = TINY.replace("--i 0", "--i 0-2 --hparams random --lr-range 1e-4 3e-3 --epochs-range 1 1")
"""Flags of three fine-tunes that take a second."""


def draw_people(folder: Path, people: int = 8) -> None:
    """Three classes of pictures by several people, and test images without labels."""
    for kind, name in enumerate(("cat", "dog", "eel")):
        for number in range(16):
            draw(folder / f"data/train/{name}/w{number % people}_{number:03d}.png", kind, seed=1000 * kind + number)
        draw(folder / f"data/test/{name}.png", kind, seed=1000 * kind + 500)


def train_people(folder: Path) -> None:
    """Train a pool on pictures of eight people, seven of whom validate."""
    draw_people(folder)
    _finetune(folder, "--group-pattern", r"(w\d+)_", "--val-ratio", "0.9")


def train_few_people(folder: Path) -> None:
    """The same with four people."""
    draw_people(folder, people=4)
    _finetune(folder, "--group-pattern", r"(w\d+)_", "--val-ratio", "0.75")


def train_images(folder: Path) -> None:
    """Train a pool on pictures with labelled test images."""
    draw_classes(folder / "data/train", ("cat", "dog"), 20)
    draw_classes(folder / "data/test", ("cat", "dog"), 4, start=50)
    _finetune(folder)


def _finetune(folder: Path, *flags: str) -> None:
    code, text = run_here("finetune", ["--name", "p", "--data-location", "data", *POOL.split(), *flags], folder)
    assert code == 0, text


def choice_is_recorded(folder: Path) -> None:
    """The record has the hash of each candidate, and the chosen model predicted."""
    line = json.loads((folder / "runs/p/logs/choice.jsonl").read_text().splitlines()[-1])
    assert set(line["candidates"]) == {"best_single", "greedy_soup", "greedy_log_loss_soup", "uniform_soup"}
    assert line["measure"] == "log_loss" and all(len(sha256) == 64 for sha256 in line["candidates"].values())
    assert (folder / f"runs/p/output/{line['answer']}.csv").is_file()


CASES = [
    Case(
        "the model that predicts is chosen by cross-fitted log-loss, and recorded",
        train_people,
        ("main --choose", "inference"),
        says=("runs/p/output/p",),
        never=("because no choice is recorded",),
        check=choice_is_recorded,
    ),
    Case(
        "a report ends with the model to use, and says what cross-fitting cannot promise",
        train_images,
        ("main --greedy-soup --uniform-soup --report",),
        says=("have seen all validation images", "Use p", "python inference.py --name p"),
    ),
    Case(
        "no labels of the test images: intervals, paired gains and p on validation",
        train_people,
        ("main --uniform-soup --report",),
        says=("cross-fitted % [95%]", "gain [95%]", "on the cross-fitted answers; exact McNemar test"),
        never=("on the test images", "mean shift", "calibration"),
    ),
    Case(
        "fewer than six groups",
        train_few_people,
        ("main --choose",),
        says=("Too few groups to be sure: 3.",),
        never=("max-T",),
    ),
    Case(
        "the pool has grown since the choice",
        train_images,
        ("main --choose", "finetune --i 3 --epochs 1", "inference"),
        says=("is older than the pool (1 fine-tune more)", "python main.py --name p --choose"),
    ),
    Case(
        "a greedy soup of Algorithm 1 is kept until a rule is named",
        train_images,
        ("main --greedy-soup --accept equal", "main --greedy-soup"),
        says=("was made by --accept equal and is kept; add --accept ties-by-log-loss for today's default rule",),
    ),
    Case(
        "a greedy soup made again by another rule",
        train_images,
        ("main --greedy-soup --accept equal", "main --greedy-soup --accept ties-by-log-loss"),
        says=("another rule than that of the former soup, --accept equal",),
    ),
    Case("no choice recorded", train_images, ("inference",), says=("because no choice is recorded", "--choose")),
]
