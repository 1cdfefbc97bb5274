"""Pickles are read without running them: plain values and stand-ins, or a refusal that names the content."""

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pytest

from soups.checkpoints.safe_unpickle import UnsafePickle, read_without_executing


class Call:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def test_plain_values_are_read_as_they_are() -> None:
    content = OrderedDict(a=[1, 2.5, "x"], b=(None, True), c={"d": ()})
    read, storages, tensors = read_without_executing(pickle.dumps(content, protocol=2))
    assert read == content and storages == set() and tensors == []


def test_values_beside_the_weights_become_empty_objects() -> None:
    content = [argparse.Namespace(lr=1), np.float64(0.5), PurePosixPath("/x")]
    read, _, _ = read_without_executing(pickle.dumps(content, protocol=2))
    assert [vars(each) for each in read] == [{}, {}, {}]


@pytest.mark.parametrize("content", [Call(), {"state_dict": {}, "x": Call()}, bytearray(3), complex(1, 2)])
def test_anything_else_is_refused_and_not_run(
    content: object, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    with pytest.raises(UnsafePickle):
        read_without_executing(pickle.dumps(content, protocol=2))
    assert os.listdir(".") == []  # noqa: PTH208
