"""The script `run_stress_tests.py`: runs each requested stress test and reports the findings."""

import logging
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.cli.flags import ParsedSettings
from soups.core.errors import EnvironmentFailure, PartialFailure, UsageError, unknown_name
from soups.files.atomic import write_json
from tools.stress.settings import TortureSettings
from tools.stress.tables import format_rows

logger = logging.getLogger(f"soups.{__name__}")

REPORT = "report.json"
_MODELS = 3


@dataclass
class Report:
    """Results of the stress tests."""

    facts: dict[str, Any] = field(default_factory=dict)
    """Stress test → its numbers."""
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, text: str, facts: Any, problems: list[str]) -> None:
        """Print and store the results of a stress test."""
        print(f"{name}\n{text}\n{len(problems)} problems\n", flush=True)
        self.facts[name] = facts
        self.problems += problems


def run_stress_tests(parsed: ParsedSettings[TortureSettings], root: Path) -> None:
    """Run the requested stress tests and print the findings.

    Args:
        parsed: the settings.
        root: the repository, which contains the scripts.

    Raises:
        UsageError: The folder is not empty, or a kind of save is unknown.
        EnvironmentFailure: The system has no `fork`.
        PartialFailure: There are findings.
    """
    settings = parsed.settings
    if not hasattr(os, "fork"):
        raise EnvironmentFailure("the stress test needs a POSIX system: this one has no fork")
    report = Report()
    with ExitStack() as stack:
        folder = settings.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soups-torture-")))
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"--folder {folder}: is not empty", next_step="choose a new --folder")
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if settings.system_calls:
            _break_saves(settings, folder, report)
        if settings.lines:
            _append_concurrently(settings, folder, report)
        if settings.kills or settings.full_disk:
            _disturb_sweeps(settings, root, folder, report)
        write_json(folder / REPORT, {**report.facts, "problems": report.problems})
    if report.problems:
        raise PartialFailure(f"{len(report.problems)} problems found\n  " + "\n  ".join(report.problems))


def _break_saves(settings: TortureSettings, folder: Path, report: Report) -> None:
    from tools.stress.faults import break_saves, can_trace
    from tools.stress.saves import SAVES

    names = SAVES if settings.saves is None else settings.saves
    for name in names:
        if name not in SAVES:
            raise unknown_name("save", name, SAVES)
    if not can_trace():
        logger.warning("system-call test skipped: strace is not installed, or not permitted")
        return
    damage = break_saves(folder / "saves", [SAVES[name] for name in names])
    heading = ("what is written", "killed at system calls", "refused for want of room")
    rows = [(name, str(damage.kills[name]), str(damage.refusals[name])) for name in names]
    facts = {name: {"kills": damage.kills[name], "refusals": damage.refusals[name]} for name in names}
    report.add("faults at every system call of a save", format_rows([heading, *rows]), facts, damage.problems)


def _append_concurrently(settings: TortureSettings, folder: Path, report: Report) -> None:
    from tools.stress.concurrent_appends import WRITERS, append_concurrently

    seconds, problems = append_concurrently(folder / "crowd.jsonl", settings.lines)
    text = f"{WRITERS} processes appended {settings.lines:,} lines each in {seconds:.0f} s"
    report.add("many writers of one log", text, {"lines": settings.lines, "seconds": round(seconds, 1)}, problems)


def _disturb_sweeps(settings: TortureSettings, root: Path, folder: Path, report: Report) -> None:
    from tools.stress.commands import Workspace, prepare
    from tools.stress.kills import run_undisturbed
    from tools.stress.sweep import make_images, read_contents, sweep_commands

    start = time.monotonic()
    prepare()
    import_seconds = time.monotonic() - start
    make_images(folder / "images")
    commands, workspace = sweep_commands(folder / "images", _MODELS), Workspace(root, folder / "undisturbed")
    durations, problems = run_undisturbed(workspace, commands)
    stages = ", ".join(
        f"{command.stage} {seconds:.1f} s" for command, seconds in zip(commands, durations, strict=False)
    )
    report.add("an undisturbed sweep", stages, [round(seconds, 2) for seconds in durations], problems)
    if problems:
        return
    expected = read_contents(workspace.run)
    if settings.full_disk:
        _run_on_full_disk(settings, root, folder, expected, report)
    if settings.kills:
        from tools.stress.kills import SweepKiller

        killer = SweepKiller(settings, root, commands, folder / "kills.jsonl")
        findings = killer.kill_sweeps(folder / "sweeps", expected, durations, import_seconds)
        report.add("kills at random moments", findings.text(), findings.facts(), findings.problems)


def _run_on_full_disk(
    settings: TortureSettings, root: Path, folder: Path, expected: dict[str, Any], report: Report
) -> None:
    from tools.stress.disk import can_mount, run_on_full_disk
    from tools.stress.sweep import sweep_commands

    if not can_mount(folder / "tried"):
        logger.warning("full-disk test skipped: mounting a disk in memory is not permitted")
        return
    commands = sweep_commands(folder / "images", _MODELS)
    refusals = run_on_full_disk(root, folder, commands, expected, settings.room_step * 1024)
    text = ", ".join(f"{kind} {number}" for kind, number in refusals.kinds.most_common())
    report.add("a full disk refused to write, by kind of file", text, dict(refusals.kinds), refusals.problems)
