"""SIGKILLs at random moments of a sweep, each followed by the same command, until the sweep is finished."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soups.files.jsonl import append_record
from tools.stress.commands import Command, Place, Process, start
from tools.stress.settings import TortureSettings
from tools.stress.sweep import contents, differences
from tools.stress.tables import text_of
from tools.stress.watch import LogWatch, held_logs, temporaries

logger = logging.getLogger(f"soups.{__name__}")

_POLL = 0.005
"""Seconds between two looks at the logs."""
_ALL = "all"
_PATIENCE = 2.0
"""Seconds that an aimed kill waits for a temporary file."""


@dataclass(frozen=True)
class Kill:
    """What is known of a kill."""

    stage: str
    seconds: float
    """After the start of the process."""
    plain: bool
    pair: bool
    aimed: bool
    temporary: list[str]
    """Temporary files that it left: it fell inside the writing of these."""
    appending: list[str]
    """Logs that were locked for a line: it fell inside the writing of these."""

    @property
    def inside_a_write(self) -> bool:
        """Whether it fell inside a write."""
        return bool(self.temporary or self.appending)


@dataclass
class Findings:
    """What became of killed sweeps."""

    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sweeps: int = 0
    commands: int = 0
    """Processes that were started."""
    lines: int = 0
    """Log lines that the watcher read."""

    def facts(self) -> dict[str, Any]:
        """Numbers: stage → kills, of these inside a write, in a process with workers, and of plain `python`."""
        stages: dict[str, dict[str, int]] = {}
        for stage in [*dict.fromkeys(kill.stage for kill in self.kills), _ALL]:
            those = [kill for kill in self.kills if stage in (kill.stage, _ALL)]
            stages[stage] = {
                "kills": len(those),
                "inside a write": sum(kill.inside_a_write for kill in those),
                "aimed": sum(kill.aimed for kill in those),
                "with workers": sum(kill.pair for kill in those),
                "plain python": sum(kill.plain for kill in those),
            }
        return {"stages": stages, "sweeps": self.sweeps, "commands": self.commands, "lines": self.lines}

    def text(self) -> str:
        """The same as a table."""
        stages = self.facts()["stages"]
        rows = [("stage", *stages[_ALL]), *((stage, *map(str, counts.values())) for stage, counts in stages.items())]
        end = f"{self.sweeps} sweeps, {self.commands} processes, {self.lines:,} log lines watched"
        return f"{text_of(rows)}\n{end}"


class Tormentor:
    """Runs one sweep after the other and kills its processes, until there were enough kills."""

    def __init__(self, settings: TortureSettings, root: Path, commands: Sequence[Command], log: Path) -> None:
        self.settings, self.root, self.commands, self.log = settings, root, commands, log
        self.chance = np.random.default_rng(settings.seed)
        self.findings = Findings()

    def torment(self, folder: Path, wanted: dict[str, Any], durations: Sequence[float], waking: float) -> Findings:
        """Kill until there were enough kills, and compare each finished sweep with the undisturbed one.

        Args:
            folder: where the sweeps are, each in a folder of its own.
            wanted: contents of the undisturbed sweep.
            durations: seconds of each command, undisturbed and forked.
            waking: seconds that a fresh process needs to import what a forked one has.
        """
        self.waking, self.durations = waking, dict(zip(self.commands, durations, strict=True))
        while len(self.findings.kills) < self.settings.kills:
            place = Place(self.root, folder / f"sweep{self.findings.sweeps}")
            place.folder.mkdir(parents=True)
            watch = LogWatch(place.run)
            for command in self.commands:
                begun, before = time.monotonic(), len(self.findings.kills)
                if not self._until_done(command, place, watch):
                    return self.findings
                if len(self.findings.kills) == before:  # The machine has less else to do than it had.
                    self.durations[command] = min(self.durations[command], time.monotonic() - begun)
            self.findings.sweeps += 1
            self.findings.lines += watch.lines
            problems = differences(contents(place.run), wanted) + watch.lost
            problems += [f"{path}: a stray of a killed process" for path in sorted(temporaries(place.folder))]
            self.findings.problems += [f"{place.folder.name}: {problem}" for problem in problems]
            logger.info("%s: %d kills so far, %d problems", place.folder, len(self.findings.kills), len(problems))
        return self.findings

    def _until_done(self, command: Command, place: Place, watch: LogWatch) -> bool:
        """Run a command again and again until it is not killed any more; whether that went well."""
        attempt = 0
        while True:
            # Even a command that makes no progress under kills is left alone in the end.
            code = self._attempt(command, place, watch, self.durations[command] * (1.3 + attempt / 8))
            attempt += 1
            watch.look()
            if code == 0:
                return True
            if code is not None:
                problem = f"{place.folder.name}: {command.stage} ended with {code}:\n{place.last_words()}"
                self.findings.problems.append(problem)
                return False

    def _attempt(self, command: Command, place: Place, watch: LogWatch, longest: float) -> int | None:
        """Run a command once, killed within so many seconds of work; its exit code, or None where it was killed."""
        plain, pair, aimed = (self.chance.random() < part for part in self._parts())
        jobs = ("--jobs", "2") if pair and command.stage in ("training", "evaluating") else ()
        longest += self.waking * (plain + bool(jobs))
        more = len(self.findings.kills) < self.settings.kills
        moment = self.chance.uniform(0, longest) if more else None
        before = temporaries(place.folder)
        process = start(Command(command.stage, command.script, (*command.arguments, *jobs)), place, plain)
        self.findings.commands += 1
        begun = time.monotonic()
        if not _ended_by(process, begun, moment, watch):
            assert moment is not None
            # A file is written in milliseconds: no time to look around once there is one.
            found = aimed and _await_write(process, place.folder, before)
            appending = [] if found else held_logs(place.folder)
            seconds = time.monotonic() - begun
            if process.kill() == -9:
                left = temporaries(place.folder) - before
                names = ([_name(path, place) for path in sorted(paths)] for paths in (left, set(appending)))
                self._note(Kill(command.stage, round(seconds, 3), plain, bool(jobs), aimed, *names))
                return None
        return process.code

    def _parts(self) -> tuple[float, float, float]:
        return self.settings.plain, self.settings.pairs, self.settings.aimed

    def _note(self, kill: Kill) -> None:
        self.findings.kills.append(kill)
        append_record(self.log, asdict(kill))


def _name(path: Path, place: Place) -> str:
    return path.relative_to(place.folder).as_posix()


def _ended_by(process: Process, begun: float, moment: float | None, watch: LogWatch) -> bool:
    """Wait until a process has ended (True) or its moment has come (False), reading the logs meanwhile."""
    while not process.ended():
        if moment is not None and time.monotonic() - begun >= moment:
            return False
        watch.look()
        time.sleep(_POLL)
    return True


def _await_write(process: Process, folder: Path, before: set[Path]) -> bool:
    """Wait until a process writes a file (True), has ended, or there was no write for long."""
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and not process.ended():
        if temporaries(folder) - before:
            return True
    return False


def undisturbed(place: Place, commands: Sequence[Command]) -> tuple[list[float], list[str]]:
    """Run a sweep that nobody kills: seconds of each command, and what went wrong, in words."""
    place.folder.mkdir(parents=True)
    seconds = []
    for command in commands:
        begun = time.monotonic()
        code = start(command, place, plain=False).wait()
        seconds.append(time.monotonic() - begun)
        if code != 0:
            return seconds, [f"{command.stage} ended with {code} undisturbed:\n{place.last_words()}"]
    return seconds, []
