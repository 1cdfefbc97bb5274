"""The checkpoints in a folder: which files are used, in which order, and which folders are refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from soups.checkpoints.checkpoint import read_state, write_checkpoint
from soups.core.errors import DataError
from soups.pipeline.run.foreign_pool import find_checkpoints, natural_key
from tests.pipeline.small_run import CARD


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["epoch_10", "epoch_2", "epoch", "2", "10", "epoch_2b"]
    assert sorted(names, key=natural_key) == ["2", "10", "epoch", "epoch_2", "epoch_2b", "epoch_10"]


def test_files_are_found_in_natural_order(tmp_path: Path) -> None:
    for name in ("m10.pt", "m2.pth", "epoch=1.ckpt", "last.pth.tar", ".hidden.pt", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "model_best.pth.tar").hardlink_to(tmp_path / "last.pth.tar")
    (tmp_path / "folder.pt").mkdir()
    write_checkpoint(tmp_path / "start.safetensors", {"w": torch.zeros(1)}, CARD)
    own = CARD.model_copy(update={"kind": "fine-tune"})
    write_checkpoint(tmp_path / "own.safetensors", {"w": torch.zeros(1)}, own)
    found = find_checkpoints(tmp_path)
    assert [path.name for path in found] == ["epoch=1.ckpt", "last.pth.tar", "m2.pth", "m10.pt", "own.safetensors"]
    assert found[tmp_path / "own.safetensors"] == own and found[tmp_path / "m2.pth"] is None


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_checkpoints(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no checkpoints in it"):
        find_checkpoints(tmp_path)
    for name in ("m.pt", "m.bin"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(DataError, match=r"m\.pt: has the same name as m\.bin"):
        find_checkpoints(tmp_path)


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_parts_of_a_checkpoint_are_joined_by_the_command(tmp_path: Path, ending: str) -> None:
    state = {"a": torch.ones(2), "b": torch.zeros(3)}
    for number, name in enumerate(state, start=1):
        part = tmp_path / "model" / f"model-0000{number}-of-00002{ending}"
        part.parent.mkdir(exist_ok=True)
        save = save_file if ending == ".safetensors" else torch.save
        save({name: state[name]}, part)
    with pytest.raises(DataError, match=r"model-00001-of-00002.*: a part of a checkpoint") as raised:
        find_checkpoints(tmp_path / "model")
    command = raised.value.next_step.removeprefix("join its parts in another folder: ")
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
    assert set(read_state(tmp_path / f"model{ending}")) == {"a", "b"}


def test_checkpoints_in_subfolders_are_named(tmp_path: Path) -> None:
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        save_file({"a": torch.ones(1)}, tmp_path / f"checkpoint-{step}" / "model.safetensors")
    with pytest.raises(DataError, match="2 in its subfolders") as raised:
        find_checkpoints(tmp_path)
    subprocess.run(raised.value.next_step.removeprefix("collect them: "), shell=True, check=True, cwd=tmp_path)
    assert {path.name for path in (tmp_path / "pool").iterdir()} == {
        "checkpoint-500.safetensors",
        "checkpoint-1000.safetensors",
    }
