"""The stress test in its short form; `python scripts/torture.py` is the long form."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.stress.faults import Call, can_trace, parse_trace
from tools.stress.saves import SAVES
from tools.stress.settings import TortureSettings

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.second_tier, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def needs_strace() -> None:
    """Skip without strace or its permission; CI installs strace."""
    if not can_trace():
        if os.environ.get("CI") and shutil.which("strace") is None:
            pytest.fail("strace is not installed, and .ci/run should have seen to that")
        pytest.skip("strace is not installed, or may not trace here")


def run(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the stress test in its own process, because this process has threads, which a fork does not copy."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "scripts/torture.py", "--folder", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    report = folder / "report.json"
    return done, json.loads(report.read_text()) if report.exists() else {}


def test_kills_a_full_disk_and_concurrent_appends_break_nothing(tmp_path: Path) -> None:
    short = ("--kills", "6", "--plain", "0", "--pairs", "0", "--aimed", "0.5", "--lines", "30", "--room-step", "96")
    done, report = run(tmp_path / "all", *short, "--system-calls", "False")
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["problems"] == []
    assert report["kills at random moments"]["stages"]["all"]["kills"] == 6
    assert report["kills at random moments"]["sweeps"] >= 1
    assert report["many writers of one log"]["lines"] == 30
    refused = report.get("a full disk refused to write, by kind of file")
    assert ("full-disk test skipped" in done.stderr) == (refused is None)
    assert refused is None or sum(refused.values()) >= 2
    kills = [json.loads(line) for line in (tmp_path / "all" / "kills.jsonl").read_text().splitlines()]
    assert len(kills) == 6


def test_a_save_survives_a_kill_and_a_full_disk_at_every_system_call(tmp_path: Path) -> None:
    needs_strace()
    names = ("checkpoint", "state", "log line", "CSV", "logits")
    done, report = run(tmp_path / "saves", "--kills", "0", "--lines", "0", "--full-disk", "False", "--saves", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = report["faults at every system call of a save"]
    assert set(counts) == set(names)
    # At least: create the file, write, sync, rename, sync the folder.
    assert all(count["kills"] >= 5 and count["refusals"] >= 4 for count in counts.values())


NAIVE = """
from pathlib import Path
from tools.stress.faults import break_saves
from tools.stress.saves import Save

def in_place(path, turn):
    with path.open("wb") as stream:
        stream.write(b"x" * 100_000 + str(turn).encode())
        stream.flush()
        stream.write(b"y" * 100_000)

print(chr(10).join(break_saves(Path({folder!r}), [Save("naive", "naive.bin", in_place)]).problems))
"""


def test_a_save_in_place_is_detected(tmp_path: Path) -> None:
    needs_strace()
    code = NAIVE.format(folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert "naive, killed at write 1: neither the old nor the new content exists" in done.stdout, done.stderr
    assert "naive, no room at write 2: exit code 70" in done.stdout


def test_calls_are_numbered_as_strace_counts_them() -> None:
    trace = """\
7 openat(AT_FDCWD, "a.py", O_RDONLY|O_CLOEXEC) = 3
7 openat(AT_FDCWD, ".a.tmp", O_RDWR|O_CREAT|O_EXCL, 0600) = 3
8 write(3, "other thread", 12) = 12
7 write(3, "a", 1 <unfinished ...>
7 <... write resumed>) = 1
7 write(3, "b", 1) = 1
7 chmod(".a.tmp", 0644) = 0
"""
    expected = [Call("openat", 2, True), Call("write", 1, True), Call("write", 2, True), Call("chmod", 1, False)]
    assert list(parse_trace(trace, 7)) == expected


@pytest.mark.parametrize("name", list(SAVES))
def test_each_save_writes_what_it_reads(tmp_path: Path, name: str) -> None:
    save = SAVES[name]
    path = tmp_path / save.file
    save.write(path, 0)
    old = save.read(path)
    save.write(path, 1)
    assert save.read(path) != old


def test_a_folder_in_use_and_an_unknown_save_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    done, _ = run(tmp_path)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    done, _ = run(tmp_path / "new", "--saves", "checkpint")
    assert done.returncode == 2
    assert "did you mean 'checkpoint'?" in done.stderr


def test_the_default_is_the_long_form() -> None:
    settings = TortureSettings()
    assert settings.kills >= 200
    assert settings.lines == 10_000
