"""Sharding and wrapping over a group; with one process everything stays as it is."""

import pytest
import torch
from torch import nn

from soups.core.errors import UsageError
from soups.runtime.devices import Runtime
from soups.runtime.process_group import SINGLE_PROCESS, ProcessGroup
from soups.training.distributed import (
    _repeated_blocks,
    check_group,
    gather_weights,
    load_weights,
    shard_classifier,
    wrap_for_group,
)


def test_blocks_are_the_members_of_the_outermost_lists() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), inner), nn.Linear(2, 2)])
    network = nn.ModuleDict({"stem": nn.Linear(2, 2), "layers": nn.ModuleDict({"blocks": blocks}), "act": nn.ReLU()})
    assert list(_repeated_blocks(network)) == list(blocks)


def test_fp16_is_refused_for_a_sharded_network() -> None:
    runtime, sharded = Runtime(precision="fp16", threads=1), ProcessGroup(size=2, sharded=True)
    with pytest.raises(UsageError, match=r"fp16: not supported for a sharded model.*\n.*bf16 or fp32"):
        check_group(sharded, runtime)
    check_group(ProcessGroup(size=2), runtime)
    check_group(sharded, Runtime(precision="bf16", threads=1))


def test_one_process_keeps_its_network_and_copies_its_weights() -> None:
    network = nn.Linear(2, 1)
    shard_classifier(network, SINGLE_PROCESS)  # type: ignore[arg-type]
    assert wrap_for_group(network, SINGLE_PROCESS) is network
    weights = gather_weights(network, SINGLE_PROCESS)  # type: ignore[arg-type]
    before = network.weight.detach().clone()
    nn.init.zeros_(network.weight)
    assert torch.equal(weights["weight"], before)
    load_weights(network, weights, SINGLE_PROCESS)  # type: ignore[arg-type]
    assert torch.equal(network.weight, before)
