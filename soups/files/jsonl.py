"""JSONL logs: durable appends under a lock, and reads that tolerate a last line torn by a crash."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from soups.core.errors import DataError
from soups.files.atomic import compact_json, explain_write_errors, make_folder, sync_folder

logger = logging.getLogger(__name__)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line of JSON under a lock; the line is synced to disk when the call returns.

    A torn last line (a writer was killed in the middle of it) is removed first, with a warning.

    Raises:
        EnvironmentFailure: the disk is full or the log cannot be written.
    """
    from filelock import FileLock

    line = (compact_json(dict(record)) + "\n").encode()
    with explain_write_errors(path):
        make_folder(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock")):
            existed = path.exists()
            with path.open("ab+") as stream:
                end, line_break = _find_valid_end(path, stream)
                stream.truncate(end)
                try:
                    stream.write(line_break + line)
                    stream.flush()
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(end)
                    raise
            if not existed:
                sync_folder(path.parent)


def truncate_torn_line(path: Path) -> None:
    """Remove a torn last line of a log, with a warning, so that later readers do not warn again.

    An intact log is not changed. A log without write permission is skipped.
    """
    from filelock import FileLock

    with suppress(OSError), path.open("rb+") as stream:
        if stream.seek(0, os.SEEK_END) == 0 or stream.seek(-1, os.SEEK_END) < 0 or stream.read(1) == b"\n":
            return
        with FileLock(path.with_name(f".{path.name}.lock")):
            end, line_break = _find_valid_end(path, stream)
            if not line_break:
                stream.truncate(end)
                os.fsync(stream.fileno())


def _find_valid_end(path: Path, stream: BinaryIO) -> tuple[int, bytes]:
    """Return the size up to which the log is valid, and the line break that its last line lacks, if any."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - 1, 0))
    if stream.read(1) in (b"\n", b""):
        return size, b""
    stream.seek(0)
    content = stream.read()
    end = content.rfind(b"\n") + 1
    last_line = content[end:]
    if _is_json_object(last_line):  # Another tool omits the final line break, or a crash happened right before it.
        return size, b"\n"
    logger.warning("%s: the last line was cut off by a crash and is dropped (%d bytes)", path, len(last_line))
    return end, b""


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSONL log, oldest first; empty for a missing file.

    A torn last line is skipped with a warning.

    Raises:
        DataError: a line before the last is not a JSON object; the message names the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = content.split(b"\n")
    last_line = lines.pop()
    records = [_parse_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if _is_json_object(last_line):
        records.append(json.loads(last_line))
    elif last_line.strip():
        logger.warning("%s: the last line was cut off by a crash and is skipped", path)
    return records


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    problem, record = "not a JSON object", None
    try:
        record = json.loads(line)
    except ValueError:
        problem = "not JSON"
    if isinstance(record, dict):
        return record
    raise DataError(
        f"{path}, line {number}: {problem}",
        expected="one JSON object on each line",
        found=line[:60].decode(errors="replace"),
        next_step="correct or delete that line",
    )
