"""Recomputes BatchNorm running statistics of averaged weights on training images.

Whether a run's soups need this is decided in `pipeline.soup.batchnorm`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images
from soups.evaluation.logits import batch_logits, inference_mode_at
from soups.runtime.devices import Runtime

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = Mapping[str, torch.Tensor]

MAX_IMAGES = 1024
"""Maximum number of training images for the statistics."""
SEED = 0
"""Seed of the selection of these images."""
_BATCH = 64
"""Approximate images in a batch: a constant, because the statistics depend on it."""
_STATISTICS = ("running_mean", "running_var")


def select_images(images: int) -> np.ndarray:
    """Returns the indices of the training images for the statistics, (K,) int64 in the order of the batches.

    Shuffled, because batches of one class would underestimate the variance.

    Args:
        images: number of training images.
    """
    return np.random.default_rng(SEED).permutation(images)[:MAX_IMAGES]


def has_statistics(names: Iterable[str]) -> bool:
    """Returns whether a state with these tensor names may be of a network with BatchNorm."""
    return any(name.endswith(_STATISTICS) for name in names)


def batchnorm_layers(network: "nn.Module") -> dict[str, Any]:
    """Returns name → layer of all BatchNorm layers that update running statistics (so not of frozen ones)."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return {
        name: layer
        for name, layer in network.named_modules(remove_duplicate=False)
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


@dataclass(frozen=True)
class BatchNormRecomputer:
    """Recomputes the running statistics of averaged weights.

    The statistics of an average are not the average of the statistics: features of averaged weights vary less (Jordan
    et al. 2023, REPAIR, arXiv:2211.08403; for averages along one training, Izmailov et al. 2018, arXiv:1803.05407). As
    in the latter's code (now `torch.optim.swa_utils.update_bn`), each statistic becomes its plain mean over batches.
    Deviations: only BatchNorm is in training mode, dropout is off, and images are not augmented.

    A state whose statistics equal those of one model bit for bit keeps them: it is that model, or close to it.
    """

    images: Images
    """At least two training images in the order of `select_images`, at the geometry of evaluation."""
    preprocessing: Preprocessing
    """Mean and standard deviation of the inputs."""
    runtime: Runtime
    """Device and precision."""
    model_fingerprints: frozenset[str] = frozenset()
    """The `statistics_fingerprint` of each model of the pool and of their start."""

    def recompute(self, network: "nn.Module", state: "State") -> None:
        """Recomputes a network's statistics in place; does not change the counters of batches.

        Args:
            network: on the runtime's device, with the weights of `state`.
            state: the state that was loaded; its dtypes round the statistics.
        """
        import torch

        layers = batchnorm_layers(network)
        if not layers or statistics_fingerprint(state, layers) in self.model_fingerprints:
            return
        saved = {name: (layer.momentum, layer.num_batches_tracked.clone()) for name, layer in layers.items()}
        with inference_mode_at(network, self.runtime):
            for layer in layers.values():
                layer.reset_running_stats()
                layer.momentum = None  # In torch, None means the plain mean over batches.
                layer.training = True  # Not layer.train(): timm's BatchNorm may contain dropout.
            for rows in np.array_split(np.arange(len(self.images)), max(1, len(self.images) // _BATCH)):
                batch_logits(network, torch.from_numpy(self.images.take(rows)), self.preprocessing, self.runtime)
            for name, layer in layers.items():
                layer.momentum, layer.training = saved[name][0], False
                layer.num_batches_tracked.copy_(saved[name][1])
                for key in _STATISTICS:  # Round to the file's dtype, so that the verdict is on what the file holds.
                    statistic = getattr(layer, key)
                    statistic.copy_(statistic.to(state[f"{name}.{key}"].dtype))

    def recomputed_state(self, network: "nn.Module", state: "State") -> "dict[str, torch.Tensor]":
        """Returns a new state with recomputed statistics, on the CPU, in the dtypes of `state`."""
        self.recompute(network, state)
        buffers = dict(network.named_buffers(remove_duplicate=False))
        recomputed = {f"{name}.{key}" for name in batchnorm_layers(network) for key in _STATISTICS}
        return {
            key: buffers[key].detach().cpu().to(tensor.dtype).clone() if key in recomputed else tensor
            for key, tensor in state.items()
        }


def statistics_fingerprint(state: "State", layers: Iterable[str]) -> str:
    """Returns the SHA-256 of the layers' statistics, equal for equal bits."""
    import torch

    digest = hashlib.sha256()
    for name in layers:
        for key in _STATISTICS:
            digest.update(state[f"{name}.{key}"].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
