"""Watching of a sweep: which log lines were readable, and what a process was writing when it was killed."""

from collections.abc import Iterable
from pathlib import Path

_LOCKS = Path("/proc/locks")


class LogWatch:
    """Reads the logs below a folder repeatedly; lines that were readable once must stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost: list[str] = []
        """Descriptions of lines that disappeared."""
        self._known: dict[Path, bytes] = {}
        self._sizes: dict[Path, int] = {}

    @property
    def lines(self) -> int:
        """Number of lines read so far."""
        return sum(content.count(b"\n") for content in self._known.values())

    def look(self) -> None:
        """Read the logs whose size has changed."""
        for path in {*self.folder.rglob("*.jsonl"), *self._known}:
            try:
                size = path.stat().st_size
                if size == self._sizes.get(path):
                    continue
                content = path.read_bytes()
            except FileNotFoundError:
                size, content = 0, b""
            whole, known = content[: content.rfind(b"\n") + 1], self._known.get(path, b"")
            if not whole.startswith(known):
                self.lost.append(f"{path}: line {_first_difference(known, whole)} is gone or changed")
            self._sizes[path], self._known[path] = size, whole


def _first_difference(known: bytes, whole: bytes) -> int:
    """Return the number of the first line of `known` that `whole` lacks at its place."""
    lines = whole.splitlines()
    differ = (number for number, line in enumerate(known.splitlines()) if lines[number : number + 1] != [line])
    return next(differ) + 1


def temporary_files(folder: Path) -> set[Path]:
    """Return temporary files below a folder: being written, or left by a killed writer."""
    try:
        return {path for path in folder.rglob(".*.tmp") if path.is_file()}
    except FileNotFoundError:  # The folder was removed during the walk.
        return set()


def held_logs(folder: Path) -> list[Path]:
    """Return the logs that are locked for an append now, from the kernel's list of locks (Linux; elsewhere none)."""
    if not _LOCKS.exists():
        return []
    held = _inodes(_LOCKS.read_text(encoding="ascii").splitlines())
    return [lock for lock in folder.rglob(".*.jsonl.lock") if lock.stat().st_ino in held]


def _inodes(lines: Iterable[str]) -> set[int]:
    """Return the inodes of held locks: `1: FLOCK  ADVISORY  WRITE 708 08:01:1049 0 EOF` → 1049; waiting ones have an
    arrow."""
    fields = [line.split() for line in lines if "->" not in line]
    return {int(field[5].rsplit(":", 1)[1]) for field in fields if len(field) > 5 and ":" in field[5]}
