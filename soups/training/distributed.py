"""A network and its optimiser over the processes of a group: all of it in each (DDP), or a part in each (FSDP).

Sharding is that of Zhao et al. 2023 (arXiv:2304.11277), parameter by parameter as torch's `fully_shard` does it:
weights, gradients and the optimiser's state are split between the devices, and a block's weights are gathered while it
works.
"""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images
from soups.evaluation.logits import compute_logits
from soups.runtime.devices import Runtime
from soups.runtime.process_group import ProcessGroup

if TYPE_CHECKING:
    import torch
    from torch import nn

    from soups.models.classifier import Classifier


def check_group(group: ProcessGroup, runtime: Runtime) -> None:
    """Raise where a group cannot train at a runtime's precision.

    Raises:
        UsageError: fp16, whose gradients are scaled, in a sharded network.
    """
    if group.sharded and runtime.precision == "fp16":
        raise UsageError(
            "--precision fp16 with a sharded model (accelerate launch --use_fsdp)",
            expected="bf16 or fp32, whose gradients need no scaling",
            next_step="start a run with --precision bf16, or leave --use_fsdp out",
        )


def shard_classifier(classifier: "Classifier", group: ProcessGroup) -> None:
    """Split a classifier's weights between the processes of a group, block by block; only where it shares them."""
    if not group.sharded:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(group.device.split(":")[0], (group.size,))
    for block in _blocks(classifier.backbone):
        fully_shard(block, mesh=mesh)
    fully_shard(classifier, mesh=mesh)


def _blocks(network: "nn.Module") -> "Iterator[nn.Module]":
    """What is repeated in a network: the members of its outermost lists."""
    from torch import nn

    members = [child for child in network.children() if any(True for _ in child.parameters())]
    if isinstance(network, nn.ModuleList | nn.Sequential) and len(members) > 1:
        yield from members
        return
    for child in members:
        yield from _blocks(child)


def wrap_for_group(model: Any, group: ProcessGroup) -> Any:
    """A prepared classifier as it is called in training: its gradients come to their mean over the processes.

    For one phase: which of its parameters are trained must not change afterwards.
    """
    if group.size == 1 or group.sharded:
        return model
    from torch.nn.parallel import DistributedDataParallel

    # A network may have weights that it does not use; the same ones in every step.
    return DistributedDataParallel(model, static_graph=True)


def gather_logits(
    classifier: "Classifier",
    images: Images,
    preprocessing: Preprocessing,
    runtime: Runtime,
    batch_size: int,
    group: ProcessGroup,
) -> np.ndarray:
    """(N, C) float32 logits of all images in each process, of which each computes its share; see `compute_logits`."""
    if group.size == 1:
        return compute_logits(classifier, images, preprocessing, runtime, batch_size)
    # Equally many for all, because sharded weights are gathered in every pass of any of them.
    rows = np.arange(-(-len(images) // group.size) * group.size).clip(max=len(images) - 1)
    part = images.subset(rows[group.share(len(rows))])
    return group.interleaved(compute_logits(classifier, part, preprocessing, runtime, batch_size), len(images))


def gather_weights(classifier: "Classifier", group: ProcessGroup) -> "dict[str, torch.Tensor]":
    """A copy of all weights, gathered where they are sharded; then for the first process alone, on the processor."""
    if not group.sharded:
        return {key: copy.deepcopy(tensor.detach()) for key, tensor in classifier.state_dict().items()}
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    gathered: dict[str, Any] = get_model_state_dict(classifier, options=_gathered())
    return gathered


def load_weights(classifier: "Classifier", weights: "dict[str, torch.Tensor]", group: ProcessGroup) -> None:
    """Take weights that `gather_weights` gave; each process has all of them."""
    if not group.sharded:
        classifier.load_state_dict(weights)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(classifier, dict[str, Any](weights), options=StateDictOptions(full_state_dict=True))


def gather_optimizer_state(classifier: "Classifier", optimizer: "torch.optim.Optimizer", group: ProcessGroup) -> Any:
    """The state of an optimiser, gathered where weights are sharded; then for the first process alone."""
    if not group.sharded:
        return optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    return get_optimizer_state_dict(classifier, optimizer, options=_gathered())


def load_optimizer_state(
    classifier: "Classifier", optimizer: "torch.optim.Optimizer", state: Any, group: ProcessGroup
) -> None:
    """Take a state that `gather_optimizer_state` gave; each process has all of it."""
    if not group.sharded:
        optimizer.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    set_optimizer_state_dict(classifier, optimizer, state, options=StateDictOptions(full_state_dict=True))


def _gathered() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)
