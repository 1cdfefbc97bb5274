"""Concurrent appends of many processes to one log."""

import json
import time
from pathlib import Path

from soups.files.jsonl import append_record
from tools.stress.commands import fork

WRITERS = 8


def append_concurrently(log: Path, lines: int) -> tuple[float, list[str]]:
    """Let eight processes append `lines` lines each; returns the seconds and the damages of the log."""
    begun = time.monotonic()
    processes = [fork(lambda writer=writer: _append(log, writer, lines)) for writer in range(WRITERS)]  # type: ignore[misc]
    codes = [process.wait() for process in processes]
    seconds = time.monotonic() - begun
    problems = [f"{log.name}: a writer ended with {code}" for code in codes if code != 0]
    return seconds, problems + find_damage(log, lines)


def _append(log: Path, writer: int, lines: int) -> int:
    for number in range(lines):
        # Different lengths, so that lines end anywhere in a block.
        append_record(log, {"writer": writer, "number": number, "text": "x" * (number % 200)})
    return 0


def find_damage(log: Path, lines: int) -> list[str]:
    """Return the damages of the log written by eight processes."""
    numbers: dict[int, list[int]] = {writer: [] for writer in range(WRITERS)}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            return [f"{log.name}: a torn line: {line[:80]}"]
        numbers[record["writer"]].append(record["number"])
    wrong = [writer for writer, found in numbers.items() if found != list(range(lines))]
    return [f"{log.name}: lines of writer {writer} are missing, double or out of order" for writer in wrong]
