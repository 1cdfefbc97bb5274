"""Hostile and damaged `.pt` files are rejected; no code runs and no memory is allocated for what they claim."""

import collections
import io
import os
import pickle
import resource
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from soups.checkpoints import torch_archive
from soups.checkpoints.checkpoint import read_state
from soups.core.errors import DataError


class Evil:
    """Pickles as a call of `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def little_memory() -> Any:
    """Limit the address space to 4 GB more than now: terabytes must be rejected before they are allocated."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def repacked(path: Path, change: Any) -> Path:
    """The archive with its pickle changed by a function from bytes to bytes."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return path


def call(module: str, name: str, *arguments: Any) -> bytes:
    """A pickle of protocol 2 that calls a global with plain arguments."""
    inner = pickle.dumps(arguments, protocol=2)[2:-1]
    return b"\x80\x02}U\x01a" + f"c{module}\n{name}\n".encode() + inner + b"Rs."


def saved(path: Path, content: Any = None, legacy: bool = False) -> Path:
    torch.save({"a": torch.ones(3)} if content is None else content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_rejected_and_not_run(tmp_path: Path, legacy: bool) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.ones(1), "b": Evil(tmp_path / "ran")}, legacy)
    with pytest.raises(
        DataError, match=r"a\.pt: not a safe checkpoint\n  found:    it holds posix\.mkdir, which is not a tensor"
    ):
        read_state(path)
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_is_rejected_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(DataError, match="not a safe checkpoint"):
        read_state(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("builtins", "bytearray", (400 * 10**9,)),
        ("torch", "FloatTensor", (10**6, 10**6)),
        ("torch", "FloatStorage", (10**12,)),
        ("torch.storage", "UntypedStorage", (10**12,)),
        ("torch._utils", "_rebuild_sparse_tensor", ()),
        ("torch._utils", "_rebuild_meta_tensor_no_storage", ()),
        ("builtins", "eval", ("1",)),
        ("os", "system", ("true",)),
        ("torch.storage", "_load_from_bytes", (b"x",)),
    ],
)
def test_calls_that_allocate_memory_or_run_code_are_rejected(
    tmp_path: Path, little_memory: None, module: str, name: str, arguments: tuple[Any, ...]
) -> None:
    path = repacked(saved(tmp_path / "a.pt"), lambda _: call(module, name, *arguments))
    with pytest.raises(DataError, match=r"not a (safe |whole )?checkpoint"):
        read_state(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_storage_that_claims_more_than_the_file_is_rejected(
    tmp_path: Path, little_memory: None, legacy: bool
) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.ones(1000)}, legacy)
    small, huge = b"M" + struct.pack("<H", 1000), pickle.dumps(10**11, protocol=2)[2:-1]

    def claim(data: bytes) -> bytes:
        assert data.count(small) >= 1
        return data.replace(small, huge)

    if legacy:
        path.write_bytes(claim(path.read_bytes()))
    else:
        repacked(path, claim)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"storages? that claims? 400000000000 bytes"):
        read_state(path)


def test_a_tensor_expanded_from_one_number_is_rejected(tmp_path: Path, little_memory: None) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.ones(1).expand(10**12)})
    with pytest.raises(DataError, match="tensors that claim 4000000000000 bytes in a file of"):
        read_state(path)


def test_a_tensor_beyond_its_storage_is_rejected(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.ones(2000)[:1000]})
    small, large = b"M" + struct.pack("<H", 1000), b"M" + struct.pack("<H", 3000)
    with pytest.raises(DataError, match=r"a tensor of shape \(3000,\) that reaches beyond its storage"):
        read_state(repacked(path, lambda data: data.replace(small, large)))


def test_a_compressed_archive_is_rejected(tmp_path: Path, little_memory: None) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        with archive.open("a/data/0", "w", force_zip64=True) as stream:
            for _ in range(200):
                stream.write(bytes(2**20))
    with pytest.raises(DataError, match="a compressed archive that would grow to"):
        read_state(path)


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # A memo of two billion entries.
        b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b".",  # A bytearray of a terabyte.
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # A whole number of two billion digits.
        b"\x80\x02X\xff\xff\xff\xff.",  # A text of four billion letters.
        b"\x80\x02\x82\x01.",  # A class by extension code.
        b"(ios\nsystem\n.",
    ],
)
def test_pickle_instructions_that_allocate_memory_are_rejected(
    tmp_path: Path, little_memory: None, instructions: bytes
) -> None:
    with pytest.raises(DataError, match=r"not a (safe |whole )?checkpoint"):
        read_state(repacked(saved(tmp_path / "a.pt"), lambda _: instructions))
    (tmp_path / "b.pt").write_bytes(instructions)
    with pytest.raises(DataError, match=r"not a (safe |whole )?checkpoint"):
        read_state(tmp_path / "b.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_are_rejected(tmp_path: Path, legacy: bool, part: float) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.randn(500), "b": torch.randn(500)}, legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match=r"a\.pt: not a (safe|whole|checkpoint)"):
        read_state(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x89PNG\r\n", b"hello", bytes(1000), b"PK\x03\x04" + bytes(500)]
)
def test_files_of_other_kinds_are_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pt: not a (safe|whole|checkpoint)"):
        read_state(tmp_path / "a.pt")


def test_two_entries_of_one_name_are_rejected(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        name = next(name for name in archive.namelist() if name.endswith("data/0"))
        archive.writestr(name, b"other")
    with pytest.raises(DataError, match="two entries of one name"):
        read_state(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_training_checkpoints_are_accepted(tmp_path: Path, legacy: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).half()
    model.register_buffer("ids", torch.arange(5).expand((1, -1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    content = {
        "state_dict": collections.OrderedDict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "parameters": list(model.parameters()),
        "bf16": torch.ones(3, dtype=torch.bfloat16),
        "bits": torch.ones(3, dtype=torch.uint16),
        "flag": torch.tensor(True),
        "size": torch.Size([3]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "epoch": 3,
        "lr": 1e-3,
        "name": "müsli",
    }
    if legacy:
        del content["bits"]  # torch itself cannot read those back.
    path = saved(tmp_path / "a.pt", content, legacy)
    found = read_state(path)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def scripted(path: Path, model: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Deprecated, but what OpenAI published is such a file.
        torch.jit.save(torch.jit.script(model), path)
    return path


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.proj = nn.Parameter(torch.randn(4, 2).half())
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("part", torch.arange(10)[2:8:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) @ self.proj.float()


def test_torchscript_archives_are_read_without_torch_jit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = Tower()
    path = scripted(tmp_path / "a.pt", tower)
    monkeypatch.setattr(torch.jit, "load", None)
    assert torch_archive.is_torchscript(path)
    found = read_state(path)
    assert found.keys() == tower.state_dict().keys()
    for key, tensor in tower.state_dict().items():
        assert torch.equal(found[key], tensor) and found[key].dtype == tensor.dtype


def test_hostile_torchscript_archives_are_rejected(tmp_path: Path, little_memory: None) -> None:
    path = scripted(tmp_path / "a.pt", Tower())
    assert not torch_archive.is_torchscript(saved(tmp_path / "b.pt"))
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol=2).dump(Evil(tmp_path / "ran"))
    with pytest.raises(DataError, match="which is not a tensor"):
        read_state(repacked(path, lambda _: stream.getvalue()))
    assert not (tmp_path / "ran").exists()
    path.write_bytes(scripted(tmp_path / "c.pt", Tower()).read_bytes()[:-100])
    with pytest.raises(DataError, match="not a whole checkpoint"):
        read_state(path)


def test_an_archive_of_a_later_zip_version_is_refused(tmp_path: Path) -> None:
    """Found by fuzzing: zipfile raises NotImplementedError."""
    torch.save({"a": torch.ones(2)}, path := tmp_path / "a.pt")
    data = path.read_bytes()
    place = data.rindex(b"PK\x01\x02") + 6
    path.write_bytes(data[:place] + b"\x80\x00" + data[place + 2 :])
    with pytest.raises(DataError, match=r"not a whole checkpoint(?s:.*)zip file version 12.8"):
        read_state(path)
