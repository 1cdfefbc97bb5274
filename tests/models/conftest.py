"""Runs tests with one thread: toy networks do not gain from more, and parallel tests would compete."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Returns image files that are not square."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index, shape in enumerate([(190, 260, 3), (301, 200, 3)]):
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())
