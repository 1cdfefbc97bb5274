"""SIGKILLs at random moments of a sweep, each followed by the same command, until the sweep is finished."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soups.files.jsonl import append_record
from tools.stress.commands import Command, Process, Workspace, start
from tools.stress.settings import TortureSettings
from tools.stress.sweep import find_differences, read_contents
from tools.stress.tables import format_rows
from tools.stress.watch import LogWatch, held_logs, temporary_files

logger = logging.getLogger(f"soups.{__name__}")

_POLL = 0.005
"""Seconds between polls of the logs."""
_ALL = "all"
_PATIENCE = 2.0
"""Seconds that an aimed kill waits for a temporary file."""


@dataclass(frozen=True)
class Kill:
    """Record of one kill."""

    stage: str
    seconds: float
    """Seconds since the start of the process."""
    plain: bool
    pair: bool
    aimed: bool
    temporary: list[str]
    """Temporary files left behind: the kill interrupted their writing."""
    appending: list[str]
    """Logs locked for an append: the kill interrupted it."""

    @property
    def inside_a_write(self) -> bool:
        """Whether the kill interrupted a write."""
        return bool(self.temporary or self.appending)


@dataclass
class Findings:
    """Results of killed sweeps."""

    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sweeps: int = 0
    commands: int = 0
    """Number of started processes."""
    lines: int = 0
    """Number of log lines read by the watcher."""

    def facts(self) -> dict[str, Any]:
        """Return stage → numbers of kills: all, during a write, of a process with workers, of plain `python`."""
        stages: dict[str, dict[str, int]] = {}
        for stage in [*dict.fromkeys(kill.stage for kill in self.kills), _ALL]:
            stage_kills = [kill for kill in self.kills if stage in (kill.stage, _ALL)]
            stages[stage] = {
                "kills": len(stage_kills),
                "inside a write": sum(kill.inside_a_write for kill in stage_kills),
                "aimed": sum(kill.aimed for kill in stage_kills),
                "with workers": sum(kill.pair for kill in stage_kills),
                "plain python": sum(kill.plain for kill in stage_kills),
            }
        return {"stages": stages, "sweeps": self.sweeps, "commands": self.commands, "lines": self.lines}

    def text(self) -> str:
        """Return the facts as a text table."""
        stages = self.facts()["stages"]
        rows = [("stage", *stages[_ALL]), *((stage, *map(str, counts.values())) for stage, counts in stages.items())]
        end = f"{self.sweeps} sweeps, {self.commands} processes, {self.lines:,} log lines watched"
        return f"{format_rows(rows)}\n{end}"


class SweepKiller:
    """Runs sweeps and kills their processes until there are enough kills."""

    def __init__(self, settings: TortureSettings, root: Path, commands: Sequence[Command], log: Path) -> None:
        self.settings, self.root, self.commands, self.log = settings, root, commands, log
        self.chance = np.random.default_rng(settings.seed)
        self.findings = Findings()
        self.import_seconds = 0.0
        self.durations: dict[Command, float] = {}

    def kill_sweeps(
        self, folder: Path, expected: dict[str, Any], durations: Sequence[float], import_seconds: float
    ) -> Findings:
        """Kill processes until there are enough kills; compare each finished sweep with the undisturbed one.

        Args:
            folder: parent of the sweeps' folders.
            expected: contents of the undisturbed sweep.
            durations: seconds of each undisturbed forked command.
            waking: seconds that a new process needs for the imports that a forked one has.
        """
        self.import_seconds, self.durations = import_seconds, dict(zip(self.commands, durations, strict=True))
        while len(self.findings.kills) < self.settings.kills:
            workspace = Workspace(self.root, folder / f"sweep{self.findings.sweeps}")
            workspace.folder.mkdir(parents=True)
            watch = LogWatch(workspace.run)
            for command in self.commands:
                start_time, before = time.monotonic(), len(self.findings.kills)
                if not self._until_done(command, workspace, watch):
                    return self.findings
                if len(self.findings.kills) == before:  # The machine is less busy than during the first measurement.
                    self.durations[command] = min(self.durations[command], time.monotonic() - start_time)
            self.findings.sweeps += 1
            self.findings.lines += watch.lines
            problems = find_differences(read_contents(workspace.run), expected) + watch.lost
            problems += [f"{path}: a stray of a killed process" for path in sorted(temporary_files(workspace.folder))]
            self.findings.problems += [f"{workspace.folder.name}: {problem}" for problem in problems]
            logger.info("%s: %d kills so far, %d problems", workspace.folder, len(self.findings.kills), len(problems))
        return self.findings

    def _until_done(self, command: Command, workspace: Workspace, watch: LogWatch) -> bool:
        """Run a command repeatedly until it is not killed; returns whether it succeeded."""
        attempt = 0
        while True:
            # Even a command that makes no progress under kills is finally left to finish.
            code = self._attempt(command, workspace, watch, self.durations[command] * (1.3 + attempt / 8))
            attempt += 1
            watch.look()
            if code == 0:
                return True
            if code is not None:
                problem = f"{workspace.folder.name}: {command.stage} ended with {code}:\n{workspace.last_output()}"
                self.findings.problems.append(problem)
                return False

    def _attempt(self, command: Command, workspace: Workspace, watch: LogWatch, longest: float) -> int | None:
        """Run a command once, killed within so many seconds of work; returns its exit code, or None if killed."""
        plain, pair, aimed = (self.chance.random() < part for part in self._parts())
        jobs = ("--jobs", "2") if pair and command.stage in ("training", "evaluating") else ()
        longest += self.import_seconds * (plain + bool(jobs))
        kills_left = len(self.findings.kills) < self.settings.kills
        kill_after = self.chance.uniform(0, longest) if kills_left else None
        before = temporary_files(workspace.folder)
        process = start(Command(command.stage, command.script, (*command.arguments, *jobs)), workspace, plain)
        self.findings.commands += 1
        start_time = time.monotonic()
        if not _ended_by(process, start_time, kill_after, watch):
            assert kill_after is not None
            # A file is written within milliseconds, so the kill must follow its appearance at once.
            is_writing = aimed and _await_write(process, workspace.folder, before)
            appending = [] if is_writing else held_logs(workspace.folder)
            seconds = time.monotonic() - start_time
            if process.kill() == -9:
                left_over = temporary_files(workspace.folder) - before
                names = ([_name(path, workspace) for path in sorted(paths)] for paths in (left_over, set(appending)))
                self._record(Kill(command.stage, round(seconds, 3), plain, bool(jobs), aimed, *names))
                return None
        return process.code

    def _parts(self) -> tuple[float, float, float]:
        return self.settings.plain, self.settings.pairs, self.settings.aimed

    def _record(self, kill: Kill) -> None:
        self.findings.kills.append(kill)
        append_record(self.log, asdict(kill))


def _name(path: Path, workspace: Workspace) -> str:
    return path.relative_to(workspace.folder).as_posix()


def _ended_by(process: Process, start_time: float, kill_after: float | None, watch: LogWatch) -> bool:
    """Wait until a process has ended (True) or the time has come (False), reading the logs meanwhile."""
    while not process.ended():
        if kill_after is not None and time.monotonic() - start_time >= kill_after:
            return False
        watch.look()
        time.sleep(_POLL)
    return True


def _await_write(process: Process, folder: Path, before: set[Path]) -> bool:
    """Wait until a process writes a file (True), has ended, or no write occurred for `_PATIENCE`."""
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and not process.ended():
        if temporary_files(folder) - before:
            return True
    return False


def run_undisturbed(workspace: Workspace, commands: Sequence[Command]) -> tuple[list[float], list[str]]:
    """Run a sweep without kills; returns the seconds of each command and the failures."""
    workspace.folder.mkdir(parents=True)
    seconds = []
    for command in commands:
        start_time = time.monotonic()
        code = start(command, workspace, plain=False).wait()
        seconds.append(time.monotonic() - start_time)
        if code != 0:
            return seconds, [f"{command.stage} ended with {code} undisturbed:\n{workspace.last_output()}"]
    return seconds, []
