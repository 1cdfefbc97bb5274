"""The watcher of logs and temporary files."""

import fcntl
import sys
from pathlib import Path

import pytest

from tools.stress import watch
from tools.stress.concurrent_appends import find_damage
from tools.stress.sweep import find_differences, read_contents


def test_lines_that_are_added_are_no_loss(tmp_path: Path) -> None:
    log, watcher = tmp_path / "logs" / "log.jsonl", watch.LogWatch(tmp_path)
    watcher.look()
    log.parent.mkdir()
    for content in (b'{"a":1}\n', b'{"a":1}\n{"a":', b'{"a":1}\n', b'{"a":1}\n{"a":2}\n'):
        log.write_bytes(content)
        watcher.look()
    assert watcher.lost == []
    assert watcher.lines == 2


@pytest.mark.parametrize("content", [b'{"a":1}\n', b'{"a":1}\n{"b":2}\n{"a":3}\n', b'{"a":1}\n{"a":', None])
def test_a_line_that_was_readable_and_is_not_any_more_is_lost(tmp_path: Path, content: bytes | None) -> None:
    log, watcher = tmp_path / "log.jsonl", watch.LogWatch(tmp_path)
    log.write_bytes(b'{"a":1}\n{"a":2}\n')
    watcher.look()
    if content is None:
        log.unlink()
    else:
        log.write_bytes(content)
    watcher.look()
    line = 1 if content is None else 2
    assert watcher.lost == [f"{log}: line {line} is gone or changed"]


def test_temporary_files_are_found_below(tmp_path: Path) -> None:
    stray = tmp_path / "models" / ".a.safetensors.12-ab.tmp"
    stray.parent.mkdir()
    stray.touch()
    (tmp_path / "a.tmp").touch()
    assert watch.temporary_files(tmp_path) == {stray}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's list of locks")
def test_a_log_that_is_locked_is_being_written(tmp_path: Path) -> None:
    lock = tmp_path / ".log.jsonl.lock"
    with lock.open("w") as stream:
        assert watch.held_logs(tmp_path) == []
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert watch.held_logs(tmp_path) == [lock]


def test_what_differs_between_two_sweeps_is_named(tmp_path: Path) -> None:
    for name, speed, other in (("one", 10, "b"), ("two", 12, "b"), ("three", 10, "c")):
        run = tmp_path / name
        (run / "logs" / ".locks").mkdir(parents=True)
        (run / "logs" / "a.jsonl").write_text(f'{{"images_per_second":{speed},"loss":1}}\n')
        (run / "logs" / ".a.jsonl.lock").touch()
        (run / "table.csv").write_text(other)
    one, two, three = (read_contents(tmp_path / name) for name in ("one", "two", "three"))
    assert find_differences(two, one) == []
    assert find_differences(three, one) == ["table.csv is different"]
    assert find_differences({"a": b"", "b": b""}, {"b": b"", "c": b""}) == ["a is left over", "c is missing"]
    (tmp_path / "two" / "logs" / "a.jsonl").write_text('{"images_per_second":10,"loss":2}\n')
    assert find_differences(read_contents(tmp_path / "two"), one) == ["logs/a.jsonl is different"]


def test_a_damaged_log_is_detected(tmp_path: Path) -> None:
    log = tmp_path / "crowd.jsonl"
    lines = [f'{{"number":{number},"writer":{writer}}}' for number in range(2) for writer in range(8)]
    log.write_text("\n".join(lines) + "\n")
    assert find_damage(log, 2) == []
    log.write_text("\n".join(lines[:-1]) + "\n")
    assert find_damage(log, 2) == ["crowd.jsonl: lines of writer 7 are missing, double or out of order"]
    log.write_text("\n".join(lines[:-1]) + '\n{"num\n')
    assert "a torn line" in find_damage(log, 2)[0]
