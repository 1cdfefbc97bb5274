"""The checkpoints in a folder: which files are used, in which order, and which folders are refused."""

from pathlib import Path

import pytest
import torch

from soups.checkpoints.checkpoint import write_checkpoint
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
