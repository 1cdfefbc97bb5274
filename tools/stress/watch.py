"""Who watches a sweep: which log lines could be read, and what a process was writing when it was killed."""

from collections.abc import Iterable
from pathlib import Path

_LOCKS = Path("/proc/locks")


class LogWatch:
    """Reads the logs below a folder again and again; what could once be read must stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost: list[str] = []
        """What was gone later, in words."""
        self._known: dict[Path, bytes] = {}
        self._sizes: dict[Path, int] = {}

    @property
    def lines(self) -> int:
        """How many lines were read so far."""
        return sum(content.count(b"\n") for content in self._known.values())

    def look(self) -> None:
        """Read whatever has changed its size."""
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
    """Number of the first line of `known` that `whole` does not have in its place."""
    lines = whole.splitlines()
    differ = (number for number, line in enumerate(known.splitlines()) if lines[number : number + 1] != [line])
    return next(differ) + 1


def temporaries(folder: Path) -> set[Path]:
    """Files below a folder that are being written, or were when their writer died."""
    try:
        return {path for path in folder.rglob(".*.tmp") if path.is_file()}
    except FileNotFoundError:  # A folder that went while it was looked through.
        return set()


def held_logs(folder: Path) -> list[Path]:
    """Logs that somebody is appending to right now, as the kernel's list of locks tells (Linux; else none)."""
    if not _LOCKS.exists():
        return []
    held = _inodes(_LOCKS.read_text(encoding="ascii").splitlines())
    return [lock for lock in folder.rglob(".*.jsonl.lock") if lock.stat().st_ino in held]


def _inodes(lines: Iterable[str]) -> set[int]:
    """`1: FLOCK  ADVISORY  WRITE 708 08:01:1049 0 EOF` → 1049; a waiting one has an arrow and holds nothing."""
    fields = [line.split() for line in lines if "->" not in line]
    return {int(field[5].rsplit(":", 1)[1]) for field in fields if len(field) > 5 and ":" in field[5]}
