"""A reported input (`Case`), how to run its commands, and helpers that write small inputs."""

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from soups import commands

SECTIONS = (
    "runs",
    "folders",
    "label_tables",
    "prediction_tables",
    "templates",
    "checkpoints",
    "default_answer",
    "environment",
    "planted_faults",
)
"""Modules of `tools.tried_cases`; each has a list `CASES`."""

TINY = "--model baseline --image-size 32 --epochs 1 --batch-size 8 --threads 1 --precision fp32 --lr 1e-3 --i 0"
"""Flags of a fine-tune that takes a second."""

COLOURS = ((210, 60, 60), (60, 210, 60), (60, 60, 210), (200, 200, 60), (200, 60, 200), (60, 200, 200), (120, 120, 120))


@dataclass(frozen=True)
class Case:
    """A reported input with its commands and the right answer."""

    name: str
    make: Callable[[Path], None]
    """Writes the input into an empty folder, which is the working folder of the commands."""
    commands: tuple[str, ...]
    """Command lines as after `soups`, such as `finetune --data-location data`. `{TINY}` stands for `TINY`."""
    exit_code: int = 0
    """Exit code of the last command; those before it must end with 0."""
    says: tuple[str, ...] = ()
    """Texts that the last command prints, white space folded."""
    never: tuple[str, ...] = ()
    """Texts that no command prints."""
    check: Callable[[Path], None] | None = None
    """Asserts what the commands have written into the folder."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of a process of its own; without any, the commands run in this process."""


@dataclass(frozen=True)
class Outcome:
    """What the commands of a case printed."""

    exit_codes: list[int]
    texts: list[str]
    """Standard output and error of each command, as printed."""

    @property
    def last(self) -> str:
        """The text of the last command, white space folded."""
        return " ".join(self.texts[-1].split())


def load_cases(section: str) -> list[Case]:
    """Return the cases of a section."""
    return list(import_module(f"tools.tried_cases.{section}").CASES)


def run_case(case: Case, folder: Path) -> Outcome:
    """Write the input of a case into an empty folder and run its commands there, until one fails."""
    case.make(folder)
    outcome = Outcome([], [])
    for line in case.commands:
        name, *arguments = shlex.split(line.replace("{TINY}", TINY))
        if case.environment:
            code, text = _run_process(name, arguments, folder, case.environment)
        else:
            code, text = run_here(name, arguments, folder)
        outcome.exit_codes.append(code)
        outcome.texts.append(text)
        if code:
            break
    return outcome


def find_faults(case: Case, outcome: Outcome, folder: Path) -> list[str]:
    """Return what differs from the right answer; nothing if all is right."""
    everything = "\n".join(outcome.texts)
    wanted = [0] * (len(case.commands) - 1) + [case.exit_code]
    faults = [f"exit codes {outcome.exit_codes}, expected {wanted}"] if outcome.exit_codes != wanted else []
    faults += [f"does not say {text!r}" for text in case.says if text not in outcome.last]
    faults += [f"says {text!r}" for text in (*case.never, "Traceback (most recent call last)") if text in everything]
    if case.check is not None and not faults:
        case.check(folder)
    return faults


def run_here(name: str, arguments: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed."""
    text = io.StringIO()
    with chdir(folder), redirect_stdout(text), redirect_stderr(text):
        code = commands.run(name, list(arguments))
    return code, text.getvalue()


def _run_process(name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "soups.commands", name, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode(environment.get("PYTHONIOENCODING", "utf-8"), "replace")


def draw(path: Path, kind: int, seed: int = 0, size: int = 32) -> None:
    """Write a picture of one colour with noise; `kind` numbers the colour."""
    pixels = np.array(COLOURS[kind % len(COLOURS)]) + np.random.default_rng(seed).integers(-40, 40, (size, size, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def draw_classes(root: Path, names: Sequence[str], count: int = 10, start: int = 0, ending: str = ".png") -> None:
    """Write `root/<class>/000.png` and so on, a colour for each class; no two pictures are equal."""
    for kind, name in enumerate(names):
        for number in range(start, start + count):
            draw(root / name / f"{number:03d}{ending}", kind, seed=1000 * kind + number)
