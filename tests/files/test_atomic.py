import errno
import json
import multiprocessing
import os
import stat
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import AlreadyInProgress, DataError, EnvironmentFailure
from soups.files import atomic as records


def test_whole_file_appears_with_the_umask_s_mode(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        records.write_text(tmp_path / "deep" / "file.txt", "öne\n")
    finally:
        os.umask(old)
    path = tmp_path / "deep" / "file.txt"
    assert path.read_text(encoding="utf-8") == "öne\n"
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_stray(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), records.atomic_write(path) as temporary:
        temporary.write_text("new, but")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk full while writing"), (errno.EACCES, "no permission to write")]
)
def test_refusals_of_the_system_are_one_message(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(EnvironmentFailure) as caught, records.atomic_write(path):
        raise OSError(number, os.strerror(number))
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        records.write_text(tmp_path / "runs" / "x" / "file.txt", "")


def test_json_and_arrays_and_tables_round_trip(tmp_path: Path) -> None:
    records.write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5\n  ],\n  "b": 1\n}\n'
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    records.write_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)
    table = pd.DataFrame({"id": ["007", "NA"], "label": ["", "1e5"]})
    records.write_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(records.read_table(tmp_path / "a.csv"), table)


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        records.read_table(tmp_path / "a.csv")
    with pytest.raises(DataError, match="is a folder"):
        records.read_table(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(DataError, match="not a readable CSV table"):
        records.read_table(tmp_path / "a.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="not a readable CSV table"):
        records.read_table(tmp_path / "empty.csv")


def test_log_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log.jsonl"
    assert records.read_records(path) == []
    for number in range(3):
        records.append_record(path, {"number": number})
    assert records.read_records(path) == [{"number": number} for number in range(3)]


def test_a_torn_tail_is_left_out_and_cut_before_the_next_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number":0}\n{"numb')
    assert records.read_records(path) == [{"number": 0}]
    records.append_record(path, {"number": 1})
    assert path.read_bytes() == b'{"number":0}\n{"number":1}\n'
    assert "cut off by a crash" in caplog.text


def test_a_whole_last_line_without_its_break_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number":0}')
    assert records.read_records(path) == [{"number": 0}]
    records.append_record(path, {"number": 1})
    assert path.read_bytes() == b'{"number":0}\n{"number":1}\n'


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number":0}\n{"numb\n{"number":2}\n')
    with pytest.raises(DataError, match=r"log\.jsonl, line 2: not JSON"):
        records.read_records(path)
    path.write_bytes(b"[1]\n")
    with pytest.raises(DataError, match="line 1: not a JSON object"):
        records.read_records(path)


def _append_many(path: Path, writer: int) -> None:
    for number in range(50):
        records.append_record(path, {"writer": writer, "number": number, "padding": "x" * 500})


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


def _write_when_free(folder: Path) -> None:
    with pytest.raises(AlreadyInProgress), records.hold_lock(folder, "name", wait=False):
        pass
    (folder / "waiting").write_text("")
    with records.hold_lock(folder, "name"):
        (folder / "written").write_text("")


def test_a_lock_keeps_other_processes_waiting(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_write_when_free, args=(tmp_path,))
    with records.hold_lock(tmp_path, "name"):
        other.start()
        deadline = time.monotonic() + 600
        while not (tmp_path / "waiting").exists():
            assert other.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        assert not (tmp_path / "written").exists()
    other.join()
    assert other.exitcode == 0 and (tmp_path / "written").exists()


def test_whoever_waits_for_a_lock_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(records, "_SILENT_SECONDS", 0.05)
    begun, waiting = threading.Event(), threading.Event()
    say = records.logger.info

    def noted(*words: object) -> None:
        say(*words)
        waiting.set()

    monkeypatch.setattr(records.logger, "info", noted)

    def hold() -> None:
        with records.hold_lock(tmp_path, "toys3"):
            begun.set()
            waiting.wait(600)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait()
    with caplog.at_level("INFO", logger="soups"), records.hold_lock(tmp_path, "toys3"):
        holder.join()
    assert waiting.is_set()
    assert caplog.messages == [f"{tmp_path / 'toys3'}: another process is at work on it; waiting until it is done"]


def test_mending_cuts_a_torn_tail_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    for content, mended in (
        (b'{"a": 1}\n{"b"', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}'),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"torn', b""),
        (b"", b""),
    ):
        log.write_bytes(content)
        records.truncate_torn_line(log)
        assert log.read_bytes() == mended
    assert len(caplog.messages) == 2 and all("cut off by a crash" in message for message in caplog.messages)
    records.truncate_torn_line(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux what a handle stands for")
def test_folders_are_synced_after_what_was_renamed_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    replace, fsync = Path.replace, os.fsync

    def noted_replace(self: Path, target: Path) -> Path:
        calls.append(("rename", Path(target).name))
        return replace(self, target)

    def noted_fsync(handle: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    records.write_text(tmp_path / "one" / "two" / "a.txt", "text")
    # The folders that are new are synced into those above them, the content before the name, the name after that.
    assert {name for _, name in calls[:2]} == {"one", tmp_path.name}
    assert [kind for kind, _ in calls[2:]] == ["sync", "rename", "sync"]
    assert calls[-2:] == [("rename", "a.txt"), ("sync", "two")]


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert records.fingerprint({"a": 1, "b": [2]}) == records.fingerprint({"b": [2], "a": 1})
    assert records.fingerprint({"a": 1}) != records.fingerprint({"a": 2})
