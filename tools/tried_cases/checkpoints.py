"""Checkpoints that other programs wrote, and files that are none."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tools.tried_cases.case import Case, draw_classes

POOL = (
    "main --greedy-soup --name pool --model-location models --data-location data --model timm:test_vit "
    "--pretrained none --threads 1 --precision fp32"
)
State = dict[str, Any]
REFERENCE = "models/reference.pt"


def _network(seed: int) -> State:
    """Return weights of timm's test_vit for cat, dog and eel, near those of other seeds."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = timm.create_model("test_vit", num_classes=3).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {key: value + 0.01 * torch.randn(value.shape, generator=generator) for key, value in state.items()}


def _make_pool(write: Callable[[Path, State], object], folder: Path, members: int = 2) -> None:
    """Write data, and `models/0.pt` … with `write(path, weights)`."""
    draw_classes(folder / "data" / "train", ("cat", "dog", "eel"), 12)
    draw_classes(folder / "data" / "test", ("cat", "dog", "eel"), 4, start=100)
    (folder / "models").mkdir()
    for seed in range(members):
        write(folder / "models" / f"{seed}.pt", _network(seed))


def _save(change: Callable[[State], Any], path: Path, state: State) -> None:
    import torch

    torch.save(change(state), path)


def _half(path: Path, state: State) -> None:
    """Write float16, float32 and bfloat16 in turn."""
    import torch

    dtype = (torch.float16, torch.float32, torch.bfloat16)[int(path.stem)]
    torch.save({key: value.to(dtype) for key, value in state.items()}, path)


def _not_a_number(path: Path, state: State) -> None:
    if path.stem == "1":
        state["norm.weight"] *= float("nan")
    _save(dict, path, state)


def _module(path: Path, state: State) -> None:
    import timm
    import torch

    torch.save(timm.create_model("test_vit", num_classes=3), path)


def _second_is(content: bytes, path: Path, state: State) -> None:
    if path.stem == "1":
        path.write_bytes(content)
    else:
        _save(dict, path, state)


def _sparse(path: Path, state: State) -> None:
    """Write a file of 2 GiB of zeros that takes no room."""
    if path.stem == "1":
        with path.open("wb") as stream:
            stream.truncate(2**31)
    else:
        _save(dict, path, state)


def _part(path: Path, state: State) -> None:
    number, names = int(path.stem), list(state)
    half = names[:40] if number == 0 else names[40:]
    _save(dict, path.with_name(f"model-0000{number + 1}-of-00002.pt"), {name: state[name] for name in half})


def _trainer_folder(path: Path, state: State) -> None:
    from safetensors.torch import save_file

    (folder := path.with_name(f"checkpoint-{path.stem}")).mkdir()
    save_file(state, folder / "model.safetensors")


def _hugging_face(path: Path, state: State) -> None:
    names = {"blocks.": "vit.encoder.layer.", "attn.qkv": "attention.attention.query", "norm.": "vit.layernorm."}
    renamed = {}
    for key, value in state.items():
        for own, other in names.items():
            key = key.replace(own, other)
        renamed[key] = value
    _save(dict, path, renamed)


def _with_numpy(state: State) -> Any:
    import numpy as np

    return {"state_dict": {f"module.{key}": value for key, value in state.items()}, "best": np.float64(0.9), "epoch": 3}


def _lightning(state: State) -> Any:
    arguments = argparse.Namespace(folder=PurePosixPath("/data"), lr=1e-3)
    weights = {f"model.{key}": value for key, value in state.items()}
    return {"state_dict": weights, "pytorch-lightning_version": "2.4.0", "hyper_parameters": {"args": arguments}}


def _prefixed(prefix: str, state: State) -> Any:
    return {f"{prefix}{key}": value for key, value in state.items()}


def _case(name: str, write: Callable[[Path, State], object], *says: str, exit_code: int = 0, members: int = 2) -> Case:
    return Case(name, partial(_make_pool, write, members=members), (POOL,), exit_code, says=says)


READ = "pool_greedy_soup: val"
PAGE = b"<!DOCTYPE html><html><head><title>Virus scan warning</title></head><body>too large</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 346293852\n"

CASES: list[Case] = [
    _case(
        "averaged weights beside the others",
        partial(_save, lambda state: {"model": state, "ema": state}),
        "0.pt and 1 more: its averaged weights (EMA) are not used: --ema takes them",
        READ,
    ),
    _case(
        "a whole module",
        _module,
        "a pickled object of class timm.models.vision_transformer.VisionTransformer",
        "weights_only=False).state_dict(), 'weights.pt')",
        exit_code=3,
    ),
    _case(
        "parts of a checkpoint",
        _part,
        "models/model-00001-of-00002.pt: a part of a checkpoint",
        "glob.glob('models/model-*-of-*.pt')",
        exit_code=3,
    ),
    _case(
        "Hugging Face's Trainer",
        _trainer_folder,
        "2 in its subfolders, such as models/checkpoint-0/model.safetensors",
        'for f in "models"/*/model.safetensors; do cp',
        exit_code=3,
    ),
    _case(
        "a ViT of Hugging Face",
        _hugging_face,
        "it is a ViT under Hugging Face's names; convert it",
        "import convert; convert('models/0.pt', 'models/0-timm.safetensors')",
        exit_code=3,
    ),
    _case("numpy values beside the weights", partial(_save, _with_numpy), "`module.*` is the backbone", READ),
    _case("Lightning with paths and arguments", partial(_save, _lightning), "`model.*` is the backbone", READ),
    _case("DataParallel", partial(_save, partial(_prefixed, "module.")), "`module.*` is the backbone", READ),
    _case("torch.compile", partial(_save, partial(_prefixed, "_orig_mod.")), "`_orig_mod.*` is the backbone", READ),
    _case(
        "half precision beside float32",
        _half,
        "models/0.pt and 1 more: half-precision weights are read as float32",
        READ,
        members=3,
    ),
    _case(
        "a member that is not a number",
        _not_a_number,
        "1 of 3 models could not be scored",
        "models/1.pt: tensor 'backbone.norm.weight' holds NaN",
        exit_code=5,
        members=3,
    ),
    _case(
        "a page in place of a file",
        partial(_second_is, PAGE),
        "models/1.pt: not a checkpoint",
        "an HTML page",
        exit_code=3,
    ),
    _case("a pointer of Git LFS", partial(_second_is, POINTER), "a Git LFS pointer", "git lfs pull", exit_code=3),
    _case("a large file of zeros", _sparse, "models/1.pt: not a whole checkpoint", exit_code=3),
]
