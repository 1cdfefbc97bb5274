"""Kills and full disks at every single system call of a save, injected by strace."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.core.errors import EnvironmentFailure, UserError
from tools.stress.commands import Process, fork, redirect
from tools.stress.saves import SAVES, Save
from tools.stress.watch import temporary_files

_WRITING = ("write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "ftruncate")
_AROUND = ("openat", "mkdir", "chmod", "fchmod", "fchmodat", "unlink", "unlinkat")
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)")


@dataclass(frozen=True)
class Call:
    """A system call of a save: the `number`th one of this `name`."""

    name: str
    number: int
    needs_room: bool
    """Whether a full disk can make it fail."""


@dataclass
class Damage:
    """Results of faults at every system call."""

    kills: Counter[str] = field(default_factory=Counter)
    """Save → number of system calls at which its process was killed."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Save → number of system calls refused for lack of room."""
    problems: list[str] = field(default_factory=list)


def can_trace() -> bool:
    """Return whether strace is installed and permitted."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def break_saves(folder: Path, saves: Iterable[Save] = tuple(SAVES.values())) -> Damage:
    """Kill each save at every system call that changes something, and fail each that needs room.

    After a kill, the old or the new content must exist completely, and repeating the save must give the new content.
    After a refusal, only the old (or new) content may exist, the message must name the cause, and repeating the save
    must succeed.

    Args:
        folder: an existing folder to work in.
        saves: the kinds of save.
    """
    damage = Damage()
    for save in saves:
        undisturbed = folder / save.name / "untroubled"
        for number, (call, kill) in enumerate(_faults(save, undisturbed)):
            work_folder = folder / save.name / str(number)
            problems = _check_after_fault(save, work_folder, call, kill, save.read(undisturbed / "files" / save.file))
            (damage.kills if kill else damage.refusals)[save.name] += 1
            case = f"{save.name}, {'killed at' if kill else 'no room at'} {call.name} {call.number}"
            damage.problems += [f"{case}: {problem}" for problem in problems]
    return damage


def _faults(save: Save, undisturbed: Path) -> Iterator[tuple[Call, bool]]:
    """Return each system call with a kill, then again with a refusal if it needs room."""
    for call in calls_of(save, undisturbed):
        yield call, True
        if call.needs_room:
            yield call, False


def calls_of(save: Save, folder: Path) -> list[Call]:
    """Return the system calls by which a save changes something, in order."""
    path = _write_old(save, folder)
    trace = folder / "trace.txt"
    process = _fork_traced(lambda: _write_new(save, path), folder, trace, inject=None)
    if process.wait() != 0:
        raise EnvironmentFailure(f"{save.name} could not be traced", found=(folder / "stderr.txt").read_text())
    return list(parse_trace(trace.read_text(encoding="utf-8", errors="replace"), process.pid))


def parse_trace(trace: str, pid: int) -> Iterator[Call]:
    """Return the calls of the main thread, numbered by name like strace's injection."""
    numbers: Counter[str] = Counter()
    for match in filter(None, map(_CALL.match, trace.splitlines())):
        if int(match[1]) != pid:
            continue
        name, arguments = match[2], match[3]
        numbers[name] += 1
        creates = name == "openat" and "O_CREAT" in arguments
        if name == "openat" and not creates:
            continue
        yield Call(name, numbers[name], needs_room=creates or name in _WRITING or name == "mkdir")


def _check_after_fault(save: Save, folder: Path, call: Call, kill: bool, new: Any) -> list[str]:
    """Save with a fault, check, save again, check; returns the damages. `new` is the expected final content."""
    path = _write_old(save, folder)
    old = save.read(path)
    fault = "signal=KILL" if kill else "error=ENOSPC"
    inject = f"{call.name}:{fault}:when={call.number}"
    code = _fork_traced(lambda: _write_new(save, path), folder, folder / "trace.txt", inject).wait()
    output = (folder / "stderr.txt").read_text(encoding="utf-8")
    found, strays = save.read(path), temporary_files(folder)
    again = fork(lambda: _write_quietly(save, path, folder)).wait()
    problems = []
    if kill and code != -9:
        problems.append(f"it ended with {code} instead of being killed")
    if not kill:
        problems += _refusal_problems(code, output, strays)
    if again != 0 or save.read(path) != new:
        problems.append("repeating the save fails")
    if found not in (old, new):
        problems.append("neither the old nor the new content exists")
    return problems


def _refusal_problems(code: int, output: str, strays: set[Path]) -> list[str]:
    # Faults that concern only a lock or the cache of hashes need not stop the save.
    problems = [f"{stray.name} is left" for stray in strays]
    if code not in (0, 4):
        problems.append(f"exit code {code}: {output[-500:]}")
    if code == 4 and "disk full while writing" not in output:
        problems.append(f"the message does not say that the disk is full: {output[-500:]}")
    return problems


def _write_old(save: Save, folder: Path) -> Path:
    """Make a folder with the old content of a save; returns the file's path."""
    folder.mkdir(parents=True)
    path = folder / "files" / save.file
    path.parent.mkdir()
    save.write(path, 0)
    return path


def _write_new(save: Save, path: Path) -> int:
    """Write the new content; returns the exit code that a command would have."""
    try:
        save.write(path, 1)
    except UserError as error:
        os.write(2, f"{error}\n".encode())
        return error.exit_code
    return 0


def _write_quietly(save: Save, path: Path, folder: Path) -> int:
    redirect(folder / "again.txt")
    return _write_new(save, path)


def _fork_traced(function: Callable[[], int], folder: Path, trace: Path, inject: str | None) -> Process:
    """Fork a process that calls the function under strace."""
    up, ready = os.pipe()
    wait, go = os.pipe()

    def wait_and_call() -> int:
        redirect(folder / "stderr.txt")
        os.write(ready, b"!")
        os.read(wait, 1)
        return function()

    process = fork(wait_and_call)
    os.read(up, 1)
    calls = ",".join((*_WRITING, *_AROUND))
    fault = [] if inject is None else ["-e", f"inject={inject}"]
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={calls}", *fault, "-p", str(process.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    tracer.stderr.readline()  # Strace reports when it is attached.
    os.write(go, b"!")
    process.wait()
    tracer.communicate()
    for end in (up, ready, wait, go):
        os.close(end)
    return process
