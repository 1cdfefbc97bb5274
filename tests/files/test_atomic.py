"""Atomic writes, their modes and messages, locks and fingerprints."""

import errno
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import AlreadyInProgress, EnvironmentFailure
from soups.files import atomic
from soups.files.tables import read_table


def test_the_mode_of_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "deep" / "file.txt", "öne\n")
    finally:
        os.umask(old)
    path = tmp_path / "deep" / "file.txt"
    assert path.read_text(encoding="utf-8") == "öne\n"
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_writes_do_not_touch_the_umask_of_other_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(0o027)

    def forbidden(mask: int) -> int:
        raise AssertionError("setting the umask changes the files of other threads")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", forbidden)
            atomic.write_text(tmp_path / "text", "text")
            with atomic.atomic_write(tmp_path / "data") as temporary:
                temporary.write_bytes(b"data")
                modes = {stat.S_IMODE(temporary.stat().st_mode)}
    finally:
        os.umask(old)
    modes |= {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("text", "data")}
    assert os.name == "nt" or modes == {0o640}


def test_a_failed_write_keeps_the_old_file_and_removes_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), atomic.atomic_write(path) as temporary:
        temporary.write_text("new, but")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk full while writing"), (errno.EACCES, "no permission to write")]
)
def test_errors_of_the_operating_system_are_one_message(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(EnvironmentFailure) as caught, atomic.atomic_write(path):
        raise OSError(number, os.strerror(number))
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        atomic.write_text(tmp_path / "runs" / "x" / "file.txt", "")


def test_json_and_arrays_and_tables_round_trip(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5\n  ],\n  "b": 1\n}\n'
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    atomic.write_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)
    table = pd.DataFrame({"id": ["007", "NA"], "label": ["", "1e5"]})
    atomic.write_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv"), table)


def _write_under_the_lock(folder: Path) -> None:
    with pytest.raises(AlreadyInProgress), atomic.hold_lock(folder, "name", wait=False):
        pass
    (folder / "waiting").write_text("")
    with atomic.hold_lock(folder, "name"):
        (folder / "written").write_text("")


def test_other_processes_wait_for_a_lock(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_write_under_the_lock, args=(tmp_path,))
    with atomic.hold_lock(tmp_path, "name"):
        other.start()
        deadline = time.monotonic() + 600
        while not (tmp_path / "waiting").exists():
            assert other.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        assert not (tmp_path / "written").exists()
    other.join()
    assert other.exitcode == 0 and (tmp_path / "written").exists()


def test_waiting_for_a_lock_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(atomic, "_SECONDS_BEFORE_NOTICE", 0.05)
    begun, waiting = threading.Event(), threading.Event()
    log = atomic.logger.info

    def log_and_release(*arguments: object) -> None:
        log(*arguments)
        waiting.set()

    monkeypatch.setattr(atomic.logger, "info", log_and_release)

    def hold() -> None:
        with atomic.hold_lock(tmp_path, "toys3"):
            begun.set()
            waiting.wait(600)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait()
    with caplog.at_level("INFO", logger="soups"), atomic.hold_lock(tmp_path, "toys3"):
        holder.join()
    assert waiting.is_set()
    assert caplog.messages == [f"{tmp_path / 'toys3'}: another process is working on it; waiting until it has finished"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name open files")
def test_folders_are_synced_after_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    replace, fsync = Path.replace, os.fsync

    def recorded_replace(self: Path, target: Path) -> Path:
        calls.append(("rename", Path(target).name))
        return replace(self, target)

    def recorded_fsync(handle: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    monkeypatch.setattr(Path, "replace", recorded_replace)
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    atomic.write_text(tmp_path / "one" / "two" / "a.txt", "text")
    # New folders are synced into their parents; the content is synced before the rename, the folder after it.
    assert {name for _, name in calls[:2]} == {"one", tmp_path.name}
    assert [kind for kind, _ in calls[2:]] == ["sync", "rename", "sync"]
    assert calls[-2:] == [("rename", "a.txt"), ("sync", "two")]


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert atomic.fingerprint({"a": 1, "b": [2]}) == atomic.fingerprint({"b": [2], "a": 1})
    assert atomic.fingerprint({"a": 1}) != atomic.fingerprint({"a": 2})


def test_a_name_that_is_too_long_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="the name is too long for this disk"):
        atomic.write_text(tmp_path / ("x" * 300), "")
