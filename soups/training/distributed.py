"""Replicates (DDP) or shards (FSDP) a network and its optimiser over the processes of a group.

Sharding follows Zhao et al. 2023 (arXiv:2304.11277), per parameter as in torch's `fully_shard`: weights, gradients and
optimiser state are split between the devices; the weights of a block are gathered while it computes.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images
from soups.evaluation.logits import compute_logits
from soups.models.classifier import Classifier
from soups.runtime.devices import Runtime
from soups.runtime.process_group import ProcessGroup


def check_group(group: ProcessGroup, runtime: Runtime) -> None:
    """Raise an error if a group of processes cannot train at a runtime's precision.

    Raises:
        UsageError: the network is sharded and the precision is fp16, which needs scaled gradients.
    """
    if group.sharded and runtime.precision == "fp16":
        raise UsageError(
            "--precision fp16: not supported for a sharded model (accelerate launch --use_fsdp)",
            expected="bf16 or fp32, which need no gradient scaling",
            next_step="start a run with --precision bf16, or leave --use_fsdp out",
        )


def shard_classifier(classifier: Classifier, group: ProcessGroup) -> None:
    """Shard a classifier's weights block by block over the group's processes, if the group is sharded."""
    if not group.sharded:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(group.device.split(":")[0], (group.size,))
    for block in _repeated_blocks(classifier.backbone):
        fully_shard(block, mesh=mesh)
    fully_shard(classifier, mesh=mesh)


def _repeated_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yields the repeated blocks of a network: members of its outermost `ModuleList` or `Sequential`."""
    members = [child for child in network.children() if next(child.parameters(), None) is not None]
    if isinstance(network, nn.ModuleList | nn.Sequential) and len(members) > 1:
        yield from members
        return
    for child in members:
        yield from _repeated_blocks(child)


def wrap_for_group(model: Any, group: ProcessGroup) -> Any:
    """Returns the prepared classifier to call in training; its gradients are averaged over the processes.

    The wrapper is valid for one phase: which parameters are trained must not change afterwards.
    """
    if group.size == 1 or group.sharded:
        return model
    # A network may have weights that it does not use; they are the same ones in every step.
    return nn.parallel.DistributedDataParallel(model, static_graph=True)


def gather_logits(
    classifier: Classifier,
    images: Images,
    preprocessing: Preprocessing,
    runtime: Runtime,
    batch_size: int,
    group: ProcessGroup,
) -> np.ndarray:
    """Returns (N, C) float32 logits of all images in every process; each process computes its share. See
    `compute_logits`."""
    if group.size == 1:
        return compute_logits(classifier, images, preprocessing, runtime, batch_size)
    # Every process gets the same number of images, because each forward pass gathers sharded weights from all
    # processes.
    rows = np.arange(-(-len(images) // group.size) * group.size).clip(max=len(images) - 1)
    own_images = images.subset(rows[group.shard(len(rows))])
    return group.gather_rows(compute_logits(classifier, own_images, preprocessing, runtime, batch_size), len(images))


def gather_weights(classifier: Classifier, group: ProcessGroup) -> dict[str, torch.Tensor]:
    """Returns a copy of all weights. Sharded weights are gathered to the CPU of the first process only."""
    if not group.sharded:
        return {key: copy.deepcopy(tensor.detach()) for key, tensor in classifier.state_dict().items()}
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return dict[str, Any](get_model_state_dict(classifier, options=options))


def load_weights(classifier: Classifier, weights: dict[str, torch.Tensor], group: ProcessGroup) -> None:
    """Load weights returned by `gather_weights`; every process must pass all of them."""
    if not group.sharded:
        classifier.load_state_dict(weights)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(classifier, dict[str, Any](weights), options=StateDictOptions(full_state_dict=True))


def gather_optimizer_state(classifier: Classifier, optimizer: torch.optim.Optimizer, group: ProcessGroup) -> Any:
    """Returns the optimiser's state. A sharded state is gathered to the CPU of the first process only."""
    if not group.sharded:
        return optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(classifier, optimizer, options=options)


def load_optimizer_state(
    classifier: Classifier, optimizer: torch.optim.Optimizer, state: Any, group: ProcessGroup
) -> None:
    """Load a state returned by `gather_optimizer_state`; every process must pass all of it."""
    if not group.sharded:
        optimizer.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    set_optimizer_state_dict(classifier, optimizer, state, options=StateDictOptions(full_state_dict=True))
