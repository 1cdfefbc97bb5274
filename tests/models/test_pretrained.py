"""Reading weights files, and loading states strictly."""

from pathlib import Path

import pytest
import torch
from torch import nn

from soups.core.errors import DataError, UsageError
from soups.models.pretrained import (
    find_weights_file,
    format_classes,
    format_keys,
    load_backbone,
    load_strictly,
    read_weights,
    select_prefix,
)


def test_wrapper_prefixes_are_removed_in_any_nesting(tmp_path: Path) -> None:
    for number, prefix in enumerate(("", "module.", "_orig_mod.module.", "module.model._orig_mod.")):
        path = tmp_path / f"{number}.pt"
        torch.save({f"{prefix}a.weight": torch.ones(1), f"{prefix}b.weight": torch.ones(1)}, path)
        assert list(read_weights(path).state) == ["a.weight", "b.weight"]
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "mixed.pt")
    assert list(read_weights(tmp_path / "mixed.pt").state) == ["module.a", "b"]


def test_openai_buffers_mark_the_file_and_are_dropped(tmp_path: Path) -> None:
    buffers = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({"visual.proj": torch.ones(1), **buffers}, tmp_path / "openai.pt")
    weights = read_weights(tmp_path / "openai.pt")
    assert weights.openai and list(weights.state) == ["visual.proj"]


def test_a_weights_file_is_found_or_the_message_lists_the_tags(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"")
    assert find_weights_file(str(tmp_path / "w.pt"), "net", ()) == tmp_path / "w.pt"
    assert find_weights_file(None, "net", ("in1k",)) is None and find_weights_file("none", "net", ("in1k",)) is None
    with pytest.raises(UsageError, match=r"--pretrained in2k: neither a file(.|\n)*tags: in1k\n.*did you mean 'in1k'"):
        find_weights_file("in2k", "net", ("in1k",))
    with pytest.raises(UsageError, match=r"net has no tags\n.*check the path"):
        find_weights_file("missing.pt", "net", ())


def test_a_strict_load_copies_and_casts() -> None:
    layer = nn.Linear(2, 1)
    state = {"weight": torch.tensor([[1.0, 2.0]], dtype=torch.float16), "bias": torch.zeros(1)}
    load_strictly(layer, state, "w.pt", "a layer")
    state["bias"] += 1
    assert layer.weight.dtype == torch.float32 and layer.weight.tolist() == [[1.0, 2.0]] and layer.bias.item() == 0


def test_a_state_that_does_not_fit_is_described() -> None:
    with pytest.raises(
        DataError,
        match=r"w.pt: its weights do not fit a layer\n  expected: the 2 tensors of a layer\n"
        r"  found:    lacks 'bias'; has also 'scale'; has 'weight' of shape \(3, 1\) instead of \(1, 2\)",
    ):
        load_strictly(nn.Linear(2, 1), {"weight": torch.ones(3, 1), "scale": torch.ones(1)}, "w.pt", "a layer")


def test_a_backbone_is_read_from_our_checkpoints_and_without_its_classifier(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1, bias=False)
    for number, state in enumerate(
        (
            {"backbone.weight": torch.ones(1, 2), "head.weight": torch.ones(3, 1)},
            {"weight": torch.ones(1, 2), "fc.weight": torch.ones(9, 1)},
        )
    ):
        torch.save(state, tmp_path / f"{number}.pt")
        nn.init.zeros_(layer.weight)
        load_backbone(layer, tmp_path / f"{number}.pt", "a layer", unused=("fc",))
        assert layer.weight.tolist() == [[1.0, 1.0]]
    assert select_prefix({"a.b": torch.ones(1), "c": torch.ones(1)}, "a.").keys() == {"b"}


def test_long_lists_are_shortened() -> None:
    assert format_keys(["a", "b"]) == "'a', 'b'" and format_keys(list("abcdef")) == "'a', 'b', 'c', 'd' and 2 more"
    assert format_classes(("x", "y")) == "2 classes: x, y"
    assert format_classes(list(map(str, range(12)))).endswith("8, 9, …")
