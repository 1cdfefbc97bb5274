"""Chunks and mapped views; recipes on task vectors need the memory of a few models for any number of ingredients."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from soups.recipes.shared.pool import Ingredient
from soups.recipes.shared.tensor_chunks import iterate_chunks, mapped_view

MEBIBYTES = 8
SLACK = 8 * 2**20
VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("wise_ft", {"alphas": (0.5, 1.0)}),
    ("model_stock", {}),
    ("ties", {"scales": (0.5, 1.0)}),
    ("dare", {"scale": 1.0}),
)
SCRIPT = """
import ctypes, gc, sys, pathlib, torch
from safetensors.torch import load_file
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
torch.set_num_threads(1)
def ingredient(path):
    return Ingredient(path.stem, path.stem, 0.5, 1.0, lambda: load_file(path), mapped=True)
files = sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors"))
small = [Ingredient(f"t{i}", f"{i}", 0.5, 1.0, lambda i=i: {"w": torch.arange(9.0) * i}) for i in range(3)]
judge = lambda state, accept=None: Verdict(1 - abs(float(state[min(state)].reshape(-1)[0])), 1, 2)
for name, options in eval(sys.argv[2]):
    RECIPES[name](Pool(tuple(small[1:]), small[0]), judge, **options)  # Libraries allocate their own memory.
    again = "again\\n"
    while again == "again\\n":
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # Return freed memory to the system.
        print("ready", flush=True)
        sys.stdin.readline()
        RECIPES[name](Pool(tuple(map(ingredient, files[1:])), ingredient(files[0])), judge, **options)
        print("done", flush=True)
        again = sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start and twelve models of 8 MiB, most of it one tensor."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models")
    generator = torch.Generator().manual_seed(0)
    for index in range(13):
        weights = torch.randn(MEBIBYTES * 2**18, generator=generator)
        save_file(
            {"a": weights[:1000].clone(), "b": weights[1000:].reshape(-1, 8)}, folder / f"m{index:02}.safetensors"
        )
    return folder


def private(process: int) -> int:
    """Return the bytes that are private to a process, without views of files."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


@contextmanager
def watched(process: int) -> Iterator[list[int]]:
    """Yield a list of a process's private bytes that grows as long as the block runs."""
    seen, over = [private(process)], threading.Event()

    def watch() -> None:
        while not over.wait(0.001):
            seen.append(private(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_ingredients(files: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(files), repr(VARIANTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for name, _ in VARIANTS:
            peaks = []
            # Beside other work the kernel may count pages late, or give whole huge ones: what the recipe needs is the
            # least of three peaks.
            for turn in range(3):
                assert process.stdout.readline() == "ready\n"
                with watched(process.pid) as seen:
                    print(file=process.stdin, flush=True)
                    assert process.stdout.readline() == "done\n"
                print("again" if turn < 2 else "", file=process.stdin, flush=True)
                assert len(seen) > 5, name
                peaks.append(max(seen) - seen[0])
            # The direction and a soup, in float32, and chunks of each; a model in float64 would not fit beside them.
            assert min(peaks) < 3.5 * MEBIBYTES * 2**20 + SLACK, (name, peaks)
        assert process.wait() == 0


def test_chunks_are_new_and_cover_the_tensor() -> None:
    for shape in ((), (3, 0), (300, 1000)):
        one, other = torch.rand(shape, dtype=torch.float64), torch.rand(shape).half()
        seen = [torch.empty(0), torch.empty(0)]
        for place, chunks in iterate_chunks([one, other]):
            seen = [torch.cat([found, piece]) for found, piece in zip(seen, chunks, strict=True)]
            assert torch.equal(chunks[0], one.reshape(-1)[place])
            chunks[0].zero_()
        assert torch.equal(seen[0].double(), one.reshape(-1)) and torch.equal(
            seen[1].double(), other.reshape(-1).double()
        )


def test_weights_in_memory_become_a_view_of_a_file() -> None:
    shared = torch.arange(6.0)
    state = {"a": shared.reshape(2, 3).T, "b": shared, "n": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16)}
    found = mapped_view(Ingredient("m", "00", 0.5, 1.0, lambda: state))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) and found[key].dtype == state[key].dtype for key in state)
