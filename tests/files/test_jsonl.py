"""JSONL logs: appends, torn last lines and damaged lines."""

import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.files.jsonl import append_record, read_records, truncate_torn_line


def test_records_are_read_in_the_order_of_appending(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log.jsonl"
    assert read_records(path) == []
    for number in range(3):
        append_record(path, {"number": number})
    assert read_records(path) == [{"number": number} for number in range(3)]


def test_a_torn_last_line_is_skipped_and_removed_by_the_next_append(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number":0}\n{"numb')
    assert read_records(path) == [{"number": 0}]
    append_record(path, {"number": 1})
    assert path.read_bytes() == b'{"number":0}\n{"number":1}\n'
    assert "cut off by a crash" in caplog.text


def test_a_last_line_without_line_break_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number":0}')
    assert read_records(path) == [{"number": 0}]
    append_record(path, {"number": 1})
    assert path.read_bytes() == b'{"number":0}\n{"number":1}\n'


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number":0}\n{"numb\n{"number":2}\n')
    with pytest.raises(DataError, match=r"log\.jsonl, line 2: not JSON"):
        read_records(path)
    path.write_bytes(b"[1]\n")
    with pytest.raises(DataError, match="line 1: not a JSON object"):
        read_records(path)


def _append_many(path: Path, writer: int) -> None:
    for number in range(50):
        append_record(path, {"writer": writer, "number": number, "padding": "x" * 500})


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    writers = [context.Process(target=_append_many, args=(path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((line["writer"], line["number"]) for line in lines) == [(w, n) for w in range(4) for n in range(50)]


def test_truncate_removes_a_torn_last_line_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    for content, expected in (
        (b'{"a": 1}\n{"b"', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}'),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"torn', b""),
        (b"", b""),
    ):
        log.write_bytes(content)
        truncate_torn_line(log)
        assert log.read_bytes() == expected
    assert len(caplog.messages) == 2 and all("cut off by a crash" in message for message in caplog.messages)
    truncate_torn_line(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
