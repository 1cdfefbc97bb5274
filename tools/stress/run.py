"""The script `torture.py`: runs each requested stress test and reports the findings."""

import logging
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.cli import flags as cli
from soups.core.errors import EnvironmentFailure, PartialFailure, UsageError, unknown_name
from soups.files.atomic import write_json
from tools.stress.settings import TortureSettings
from tools.stress.tables import text_of

logger = logging.getLogger(f"soups.{__name__}")

REPORT = "report.json"
_MODELS = 3


@dataclass
class Report:
    """Results of the stress tests."""

    facts: dict[str, Any] = field(default_factory=dict)
    """Stress test → its numbers."""
    problems: list[str] = field(default_factory=list)

    def tell(self, torment: str, text: str, facts: Any, problems: list[str]) -> None:
        """Print and store the results of a stress test."""
        print(f"{torment}\n{text}\n{len(problems)} problems\n", flush=True)
        self.facts[torment] = facts
        self.problems += problems


def torture(given: cli.ParsedSettings[TortureSettings], root: Path) -> None:
    """Run the requested stress tests and print the findings.

    Args:
        parsed: the settings.
        root: the repository, which contains the scripts.

    Raises:
        UsageError: The folder is not empty, or a kind of save is unknown.
        EnvironmentFailure: The system has no `fork`.
        PartialFailure: There are findings.
    """
    settings = given.settings
    if not hasattr(os, "fork"):
        raise EnvironmentFailure("torture needs a POSIX system: this one has no fork")
    report = Report()
    with ExitStack() as stack:
        folder = settings.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soups-torture-")))
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"--folder {folder}: is not empty", next_step="give a new one")
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if settings.system_calls:
            _break_saves(settings, folder, report)
        if settings.lines:
            _crowd(settings, folder, report)
        if settings.kills or settings.full_disk:
            _disturb_sweeps(settings, root, folder, report)
        write_json(folder / REPORT, {**report.facts, "problems": report.problems})
    if report.problems:
        raise PartialFailure(f"{len(report.problems)} promises were broken\n  " + "\n  ".join(report.problems))


def _break_saves(settings: TortureSettings, folder: Path, report: Report) -> None:
    from tools.stress.faults import break_saves, can_trace
    from tools.stress.saves import SAVES

    names = SAVES if settings.saves is None else settings.saves
    for name in names:
        if name not in SAVES:
            raise unknown_name("save", name, SAVES)
    if not can_trace():
        logger.warning("no faults at system calls: strace is not installed, or may not trace here")
        return
    damage = break_saves(folder / "saves", [SAVES[name] for name in names])
    heading = ("what is written", "killed at system calls", "refused for want of room")
    rows = [(name, str(damage.kills[name]), str(damage.refusals[name])) for name in names]
    facts = {name: {"kills": damage.kills[name], "refusals": damage.refusals[name]} for name in names}
    report.tell("faults at every system call of a save", text_of([heading, *rows]), facts, damage.problems)


def _crowd(settings: TortureSettings, folder: Path, report: Report) -> None:
    from tools.stress.concurrent_appends import WRITERS, crowd

    seconds, problems = crowd(folder / "crowd.jsonl", settings.lines)
    text = f"{WRITERS} processes appended {settings.lines:,} lines each in {seconds:.0f} s"
    report.tell("many writers of one log", text, {"lines": settings.lines, "seconds": round(seconds, 1)}, problems)


def _disturb_sweeps(settings: TortureSettings, root: Path, folder: Path, report: Report) -> None:
    from tools.stress.commands import Place, prepare
    from tools.stress.kills import undisturbed
    from tools.stress.sweep import commands_of, contents, make_images

    begun = time.monotonic()
    prepare()
    waking = time.monotonic() - begun
    make_images(folder / "images")
    commands, place = commands_of(folder / "images", _MODELS), Place(root, folder / "undisturbed")
    durations, problems = undisturbed(place, commands)
    stages = ", ".join(
        f"{command.stage} {seconds:.1f} s" for command, seconds in zip(commands, durations, strict=False)
    )
    report.tell("an undisturbed sweep", stages, [round(seconds, 2) for seconds in durations], problems)
    if problems:
        return
    wanted = contents(place.run)
    if settings.full_disk:
        _starve(settings, root, folder, wanted, report)
    if settings.kills:
        from tools.stress.kills import Tormentor

        tormentor = Tormentor(settings, root, commands, folder / "kills.jsonl")
        findings = tormentor.torment(folder / "sweeps", wanted, durations, waking)
        report.tell("kills at random moments", findings.text(), findings.facts(), findings.problems)


def _starve(settings: TortureSettings, root: Path, folder: Path, wanted: dict[str, Any], report: Report) -> None:
    from tools.stress.disk import can_mount, starve
    from tools.stress.sweep import commands_of

    if not can_mount(folder / "tried"):
        logger.warning("no full disk: a disk in memory cannot be mounted here")
        return
    commands = commands_of(folder / "images", _MODELS)
    refusals = starve(root, folder, commands, wanted, settings.room_step * 1024)
    text = ", ".join(f"{kind} {number}" for kind, number in refusals.kinds.most_common())
    report.tell("a full disk refused to write, by kind of file", text, dict(refusals.kinds), refusals.problems)
