"""What killed processes leave is removed, and nothing else is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soups.files import temp_files as strays
from soups.files.atomic import atomic_write
from soups.files.temp_files import remove_leftover_files, temporary_prefix

LEAVES = """
import os, sys
from pathlib import Path
from soups.files.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""


def test_what_a_killed_process_leaves_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model.safetensors"
    assert subprocess.run([sys.executable, "-c", LEAVES, str(target)], cwd=Path(__file__).parents[2]).returncode == 9
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".model.safetensors.") and not target.exists()
    assert remove_leftover_files([tmp_path]) == 1
    assert list(target.parent.iterdir()) == []


def test_files_in_work_are_left_alone(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
        assert remove_leftover_files([tmp_path]) == 0 and temporary.exists()
    assert (tmp_path / "a.json").read_text() == "{}"


@pytest.mark.parametrize("age", [0, 2 * 24 * 3600])
def test_those_of_other_machines_are_removed_when_they_are_old(tmp_path: Path, age: int) -> None:
    path = tmp_path / f".model.{os.getpid()}-00000000.abc.tmp"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    assert remove_leftover_files([tmp_path]) == int(age > 0)
    assert path.exists() == (age == 0)


def test_files_of_others_are_not_ours_to_remove(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in ("notes.tmp", ".hidden.tmp", ".a.12-xyz.b.tmp", f".a.{dead.pid}-{strays._place()}.b"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / f".folder.{dead.pid}-{strays._place()}.x.tmp").mkdir()
    assert remove_leftover_files([tmp_path]) == 0
    assert len(list(tmp_path.iterdir())) == 5
    mine = tmp_path / f".a.{dead.pid}-{strays._place()}.b.tmp"
    mine.touch()
    assert remove_leftover_files([tmp_path]) == 1 and not mine.exists()


def test_folders_that_are_not_there_or_closed_are_no_mistake(tmp_path: Path) -> None:
    assert remove_leftover_files([tmp_path / "none"], tmp_path / "neither") == 0
    assert temporary_prefix("a").startswith(f".a.{os.getpid()}-")
