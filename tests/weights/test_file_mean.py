"""Means of files without torch, against the bytes of averaging the tensors and writing the result."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from soups.checkpoints.card import Card, card_text
from soups.checkpoints.checkpoint import write_checkpoint
from soups.weights import file_mean
from soups.weights.file_mean import NotFinite, can_average_files, write_mean
from soups.weights.state_dict import average_states

CARD = Card.model_validate(
    {
        "kind": "soup",
        "architecture": {"family": "timm", "name": "toy"},
        "classes": ("a", "b"),
        "preprocessing": {"size": 4, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    }
)


def state_of(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {"z": (7, 5), "a": (1001,), "m": (3, 3, 3), "one": (), "none": (0, 4)}
    dtypes = [torch.float32, torch.float32, torch.float16, torch.float64, torch.float32]
    state = {
        key: (torch.randn(shape, generator=generator) * 10).to(dtype)
        for (key, shape), dtype in zip(tensors.items(), dtypes, strict=True)
    }
    return {**state, "count": torch.tensor(seed), "mask": torch.tensor([True, seed % 2 == 0]), "half": state["m"] * 0.5}


def files_of(folder: Path, states: list[dict[str, torch.Tensor]]) -> list[Path]:
    paths = [folder / f"{number}.safetensors" for number in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        write_checkpoint(path, state, CARD)
    return paths


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [1, 64, 1 << 18])
def test_the_bytes_equal_those_of_averaging_tensors_and_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, threads: int, chunk: int
) -> None:
    monkeypatch.setattr(file_mean, "_CHUNK", chunk)
    states = [state_of(seed) for seed in range(number)]
    files = files_of(tmp_path, states)
    assert can_average_files(files)
    sha256 = write_mean(tmp_path / "mean.safetensors", files, card_text(CARD), threads)
    mean = average_states([(str(seed), state) for seed, state in enumerate(states)], mapped=True)
    assert write_checkpoint(tmp_path / "expected.safetensors", mean, CARD) == sha256
    assert (tmp_path / "mean.safetensors").read_bytes() == (tmp_path / "expected.safetensors").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_mean_that_is_not_finite_is_not_written(tmp_path: Path, value: float) -> None:
    states = [state_of(seed) for seed in range(3)]
    states[1]["z"][3, 2] = value
    files = files_of(tmp_path, states)
    with pytest.raises(NotFinite):
        write_mean(tmp_path / "mean.safetensors", files, card_text(CARD), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name for file in files]


def test_files_of_other_layouts_or_dtypes_cannot_be_averaged_here(tmp_path: Path) -> None:
    state = state_of(0)
    same, wide, brain = files_of(
        tmp_path, [state, {**state, "z": torch.ones(8, 5)}, {**state, "z": torch.ones(7, 5, dtype=torch.bfloat16)}]
    )
    assert can_average_files([same, same]) and not can_average_files([same, wide])
    assert not can_average_files([brain, brain])
    # Another tool may lay tensors out in another order: the same names at other offsets.
    moved = tmp_path / "moved.safetensors"
    save_file({"b": torch.ones(2), "a": torch.ones(2)}, moved)
    text = moved.read_bytes()
    swapped = text.replace(b"[0,8]", b"[x,y]").replace(b"[8,16]", b"[0,8]").replace(b"[x,y]", b"[8,16]")
    assert swapped != text and len(swapped) == len(text)
    moved.write_bytes(swapped)
    assert not can_average_files([moved, moved])


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    files = files_of(tmp_path, [state_of(seed) for seed in range(3)])
    code = (
        "import sys; from pathlib import Path; from soups.weights.file_mean import can_average_files, write_mean\n"
        "paths = [Path(name) for name in sys.argv[2:]]\n"
        "assert can_average_files(paths); write_mean(Path(sys.argv[1]), paths, '{}', 2)\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mean.safetensors"), *map(str, files)], cwd=root, check=True
    )
    assert (tmp_path / "mean.safetensors").is_file()
