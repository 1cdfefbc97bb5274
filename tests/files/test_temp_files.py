"""Temporary files of killed processes are removed, and no other files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soups.files import temp_files
from soups.files.atomic import atomic_write
from soups.files.temp_files import create_temporary_file, remove_leftover_files

KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from soups.files.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""


def test_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model.safetensors"
    assert (
        subprocess.run(
            [sys.executable, "-c", KILLED_WHILE_WRITING, str(target)], cwd=Path(__file__).parents[2]
        ).returncode
        == 9
    )
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".model.safetensors.") and not target.exists()
    assert remove_leftover_files([tmp_path]) == 1
    assert list(target.parent.iterdir()) == []


def test_files_of_running_processes_are_not_removed(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
        assert remove_leftover_files([tmp_path]) == 0 and temporary.exists()
    assert (tmp_path / "a.json").read_text() == "{}"


@pytest.mark.parametrize("age", [0, 2 * 24 * 3600])
def test_files_of_other_machines_are_removed_after_a_day(tmp_path: Path, age: int) -> None:
    path = tmp_path / f".model.{os.getpid()}-00000000.abc.tmp"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    assert remove_leftover_files([tmp_path]) == int(age > 0)
    assert path.exists() == (age == 0)


def test_files_with_other_names_are_not_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in ("notes.tmp", ".hidden.tmp", ".a.12-xyz.b.tmp", f".a.{dead.pid}-{temp_files._process_space()}.b"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / f".folder.{dead.pid}-{temp_files._process_space()}.x.tmp").mkdir()
    assert remove_leftover_files([tmp_path]) == 0
    assert len(list(tmp_path.iterdir())) == 5
    leftover = tmp_path / f".a.{dead.pid}-{temp_files._process_space()}.b.tmp"
    leftover.touch()
    assert remove_leftover_files([tmp_path]) == 1 and not leftover.exists()


def test_missing_folders_are_skipped(tmp_path: Path) -> None:
    assert remove_leftover_files([tmp_path / "none"], tmp_path / "neither") == 0


def test_temporary_files_have_distinct_names_with_the_process_number(tmp_path: Path) -> None:
    files = {create_temporary_file(tmp_path / "a") for _ in range(3)}
    assert len(files) == 3
    assert all(file.name.startswith(f".a.{os.getpid()}-") and file.read_bytes() == b"" for file in files)
