"""A sweep on a disk that is too small: clear errors, undamaged files, and success with enough room."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.stress.commands import Command, Workspace, start
from tools.stress.sweep import find_differences, list_files, read_contents
from tools.stress.watch import LogWatch, temporary_files

_MEBIBYTES = 64
_MOST_REFUSALS = 400
_REFUSED = re.compile(r"(\S+): disk full while writing")
_REFUSAL_CODES = {4, 5}
"""No room for the command (4), or for some or all of several fine-tunes (5), whose messages are printed."""
_PERMANENT = {".safetensors", ".csv", ".npy", ".yaml"}
"""Endings of files that are never changed once written."""


@dataclass
class Refusals:
    """Results of a sweep on a full disk."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Ending of the file that could not be written → count."""
    problems: list[str] = field(default_factory=list)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk in memory at a new folder.

    Raises:
        subprocess.CalledProcessError: This process has no permission to mount.
    """
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_MEBIBYTES}m", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Return whether `small_disk` works in this folder, by trying."""
    if shutil.which("mount") is None:
        return False
    try:
        with small_disk(folder):
            return True
    except subprocess.CalledProcessError:
        return False


def leave_room(disk: Path, room: int) -> None:
    """Fill a disk up to so many free bytes, or shorten the filler if fewer are free."""
    with (disk / "filling").open("ab") as filler:
        status = os.statvfs(disk)
        size = filler.tell() + status.f_bavail * status.f_frsize - room
        filler.truncate(max(size, 0))
        if size > 0:
            os.posix_fallocate(filler.fileno(), 0, size)


def run_on_full_disk(
    root: Path, folder: Path, commands: Sequence[Command], expected: dict[str, Any], step: int
) -> Refusals:
    """Run a sweep on a full disk, adding `step` bytes after each refusal, until the sweep is finished.

    Args:
        root: the repository.
        folder: an existing folder to mount in.
        commands: the sweep.
        expected: contents of the undisturbed sweep.
        step: bytes added after each refusal.
    """
    refusals = Refusals()
    with small_disk(folder / "disk") as disk:
        workspace, watch, room = Workspace(root, disk), LogWatch(disk), 0
        for command in commands:
            while (code := _run_with_room(command, workspace, room, refusals)) != 0:
                watch.look()
                if code not in _REFUSAL_CODES or refusals.kinds.total() > _MOST_REFUSALS:
                    refusals.problems.append(
                        f"full disk: {command.stage} ended with {code}:\n{workspace.last_output()}"
                    )
                    return refusals
                room += step
            watch.look()
        problems = find_differences(read_contents(workspace.run), expected) + watch.lost
        refusals.problems += [f"full disk: {problem}" for problem in problems]
    return refusals


def _run_with_room(command: Command, workspace: Workspace, room: int, refusals: Refusals) -> int:
    """Run a command with so many free bytes; returns its exit code."""
    leave_room(workspace.folder, room)
    before = _read_permanent_files(workspace.run)
    code = start(command, workspace, plain=False).wait()
    after = _read_permanent_files(workspace.run)
    changed = [name for name in before if after.get(name) != before[name]]
    problems = [f"{name} was changed by a command that was refused" for name in changed]
    problems += [f"{path.name} is left over" for path in temporary_files(workspace.folder)]
    refused = _REFUSED.search(workspace.last_output())
    if code in _REFUSAL_CODES and refused is None:
        problems.append(f"exit code {code} without saying that the disk is full:\n{workspace.last_output()}")
    if code in _REFUSAL_CODES and refused is not None:
        refusals.kinds[Path(refused[1]).suffix or Path(refused[1]).name] += 1
    refusals.problems += [f"full disk, {command.stage}: {problem}" for problem in problems]
    return code


def _read_permanent_files(run: Path) -> dict[str, bytes]:
    """Return name → bytes of a run's permanent files."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in list_files(run)
        if path.suffix in _PERMANENT and path.name != "settings.yaml"  # It lists the models that are finished so far.
    }
