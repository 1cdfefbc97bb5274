"""Checkpoints: what is written is read, equal work gives equal bytes, and damaged files are rejected."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from soups.checkpoints.card import Architecture, Card, IngredientCard, SoupCard, read_card
from soups.checkpoints.checkpoint import read_layout, read_state, write_checkpoint
from soups.core.errors import DataError, EnvironmentFailure
from soups.core.preprocessing import Preprocessing


def a_card(**changes: object) -> Card:
    values: dict[str, object] = {
        "kind": "soup",
        "architecture": Architecture(family="open_clip", name="custom", quick_gelu=True, config={"embed_dim": 4}),
        "classes": ("müsli", 'qu"ote', "zero"),
        "preprocessing": Preprocessing(size=32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), interpolation="bilinear"),
        "training": {"lr": 1e-5, "seed": 3, "precision": "fp32"},
        "data": "d" * 16,
        "split": "s" * 16,
        "start": "a" * 64,
        "scores": {"val": {"accuracy": 0.1 + 0.2}},
        "soup": SoupCard(
            recipe="greedy",
            ingredients=(IngredientCard(name="a", sha256="b" * 64, coefficient=1 / 3),),
            options={"strict": True},
        ),
    }
    return Card.model_validate(values | changes)


def a_state() -> dict[str, torch.Tensor]:
    return {"backbone.w": torch.arange(6.0).view(2, 3).T, "head.weight": torch.ones(3, 2), "count": torch.tensor(7)}


def header_of(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def with_header(path: Path, header: bytes, length: int | None = None) -> Path:
    """The file with another header, and perhaps a false length of it."""
    content = path.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


def test_card_and_weights_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = write_checkpoint(path, a_state(), a_card())
    assert read_card(path) == a_card()
    found = read_state(path, sha256)
    assert found.keys() == a_state().keys()
    for key, tensor in a_state().items():
        assert torch.equal(found[key], tensor) and found[key].dtype == tensor.dtype


def test_a_start_has_no_soup_and_no_training(tmp_path: Path) -> None:
    card = a_card(kind="start", soup=None, training={})
    write_checkpoint(tmp_path / "a.safetensors", a_state(), card)
    assert read_card(tmp_path / "a.safetensors") == card


def test_the_file_has_one_metadata_key(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.safetensors", a_state(), a_card())
    assert list(header_of(tmp_path / "a.safetensors")["__metadata__"]) == ["card"]


def test_equal_work_gives_equal_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, torch\n"
        "from soups.checkpoints.card import *; from soups.checkpoints.checkpoint import *\n"
        "from soups.core.preprocessing import Preprocessing\n"
        "names = [f'k{i}' for i in range(30)]\n"
        "card = Card(kind='start', architecture=Architecture(family='f', name='n', config={n: 1 for n in set(names)}),"
        " classes=('a',), preprocessing=Preprocessing(size=1, mean=(0, 0, 0), std=(1, 1, 1)),"
        " training={n: n for n in set(names)})\n"
        "write_checkpoint(pathlib.Path(sys.argv[1]), {n: torch.ones(2) for n in set(names)}, card)\n"
    )
    for seed in "1", "2":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        path = tmp_path / f"{seed}.safetensors"
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment)
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_a_file_without_card_gives_none(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert read_card(tmp_path / "a.safetensors") is None


def test_a_flipped_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = write_checkpoint(path, a_state(), a_card())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"changed since it was logged\n  expected: SHA-256 {sha256}"):
        read_state(path, sha256)


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_a_truncated_file_is_rejected(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, a_state(), a_card())
    path.write_bytes(path.read_bytes()[:kept])
    for read in read_card, read_state:
        words = "not a whole safetensors file" if kept or read is read_card else "not a checkpoint(?s:.*)an empty file"
        with pytest.raises(DataError, match=words):
            read(path)


def test_appended_bytes_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, a_state(), a_card())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"expected: .* bytes\n  found: .* bytes"):
        read_card(path)


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**62),
        (b"{}", 90_000_000),
        (b"not json", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b'{"a": 1}', None),
        (b'{"a": {"data_offsets": [0, "x"]}}', None),
        (b'{"__metadata__": [1]}', None),
        (b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}', None),
    ],
)
def test_an_invalid_header_is_rejected(tmp_path: Path, header: bytes, length: int | None) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, a_state(), a_card())
    with_header(path, header, length)
    for read in read_card, read_state:
        with pytest.raises(DataError, match="not a whole safetensors file"):
            read(path)


def test_a_tensor_that_claims_more_than_its_bytes_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        read_state(path)


def a_state_contiguous() -> dict[str, torch.Tensor]:
    return {key: tensor.contiguous() for key, tensor in a_state().items()}


@pytest.mark.parametrize("read", [read_card, read_state])
def test_missing_files_and_folders_are_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(DataError, match=r"none\.safetensors: no such file"):
        read(tmp_path / "none.safetensors")  # type: ignore[operator]
    with pytest.raises(DataError, match=r"is a folder|no such file"):
        read(tmp_path)  # type: ignore[operator]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_environment_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, a_state(), a_card())
    path.chmod(0)
    for read in read_card, read_state:
        with pytest.raises(EnvironmentFailure, match="no permission to read"):
            read(path)


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, a_state(), a_card())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float"):
        write_checkpoint(path, a_state(), a_card(training={"lr": float("nan")}))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_of_other_tools_are_read(tmp_path: Path, suffix: str, wrapped: bool, legacy: bool) -> None:
    path = tmp_path / f"a{suffix}"
    content = {"state_dict": a_state(), "epoch": 3, "name": "x"} if wrapped else a_state()
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_state(path)
    assert found.keys() == a_state().keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in a_state().items())


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {}, {"state_dict": {"a": torch.ones(1), "b": 2}}])
def test_files_without_state_dict_are_rejected(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataError, match="not a state dict\n  expected: names and tensors"):
        read_state(tmp_path / "a.pt")


def test_bytes_and_hash_are_those_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    shared = torch.arange(8.0)
    state = a_state() | {"one": shared, "other": shared, "part": shared[2:5], "grown": torch.ones(1).expand(4)}
    sha256 = write_checkpoint(path, state, a_card())
    separate = {key: tensor.contiguous().clone() for key, tensor in state.items()}
    card = json.dumps(a_card().model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    assert path.read_bytes() == save(separate, metadata={"card": card})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_dtype_that_cannot_be_stored_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tensor 'z' cannot be written"):
        write_checkpoint(tmp_path / "a.safetensors", {"z": torch.ones(1, dtype=torch.complex128)}, a_card())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_layouts_are_read(tmp_path: Path, name: str) -> None:
    torch.save(a_state(), tmp_path / "a.pt")
    write_checkpoint(tmp_path / "a.safetensors", a_state(), a_card())
    expected = {"backbone.w": ((3, 2), "float32"), "head.weight": ((3, 2), "float32"), "count": ((), "int64")}
    assert read_layout(tmp_path / name) == expected


def test_a_layout_is_read_without_torch_or_data(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, a_state(), a_card())
    script = (
        "import sys, pathlib; from soups.checkpoints.card import read_card\n"
        "from soups.checkpoints.checkpoint import read_layout\n"
        "assert read_card(pathlib.Path(sys.argv[1])) is not None\n"
        "print(len(read_layout(pathlib.Path(sys.argv[1]))), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3", "False"]


def private_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of a process's memory")
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_weights_are_views_of_the_file(tmp_path: Path, name: str) -> None:
    state = {f"w{number}": torch.full((1 << 20,), float(number)) for number in range(16)}  # 64 MiB.
    write_checkpoint(tmp_path / "a.safetensors", state, a_card())
    torch.save(state, tmp_path / "a.pt")
    content = (tmp_path / name).read_bytes()
    before = private_bytes()
    found = read_state(tmp_path / name)
    assert all(found[key].amax() == tensor[0] for key, tensor in state.items())
    assert private_bytes() - before < 16 * 2**20
    found["w3"].zero_()
    assert (tmp_path / name).read_bytes() == content


def test_compressed_archives_are_read(tmp_path: Path) -> None:
    torch.save(a_state(), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as whole, zipfile.ZipFile(tmp_path / "b.pt", "w") as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry), zipfile.ZIP_DEFLATED)
    found = read_state(tmp_path / "b.pt")
    assert all(torch.equal(found[key], tensor) for key, tensor in a_state().items())


def test_nested_state_dicts_are_found(tmp_path: Path) -> None:
    for number, content in enumerate(
        ({"module": a_state()}, {"model": {"state_dict": a_state()}, "epoch": 3}, {"model": {}, "module": a_state()})
    ):
        torch.save(content, tmp_path / f"{number}.pt")
        assert read_state(tmp_path / f"{number}.pt").keys() == a_state().keys()


def test_a_dictionary_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {"epoch": 3}
    content["model"] = content
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt: not a state dict"):
        read_state(tmp_path / "a.pt")
