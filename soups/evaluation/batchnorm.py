"""BatchNorm in soups: running statistics computed anew for averaged weights, on training images."""

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

IMAGES = 1024
"""Training images that the statistics are taken of, at the most."""
SEED = 0
"""Of the draw of these images."""
_BATCH = 64
"""Images in a batch, about: a constant, because it shows in the statistics."""
_STATISTICS = ("running_mean", "running_var")


def select_images(images: int) -> np.ndarray:
    """Which of so many training images the statistics are taken of, (K,) int64 in the order in which they are seen.

    Shuffled, because batches of one class each would understate the variance.
    """
    return np.random.default_rng(SEED).permutation(images)[:IMAGES]


def has_statistics(names: Iterable[str]) -> bool:
    """Whether tensors may be those of a network with BatchNorm, by their names."""
    return any(name.endswith(_STATISTICS) for name in names)


def batchnorm_layers(network: "nn.Module") -> dict[str, Any]:
    """Name → layer of those that keep running statistics; frozen BatchNorm keeps none that training would change."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return {
        name: layer
        for name, layer in network.named_modules(remove_duplicate=False)
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


@dataclass(frozen=True)
class BatchNormRecomputer:
    """Gives averaged weights the running statistics that they would have had.

    The statistics of an average are not the average of the statistics: features of averaged weights vary less (Jordan
    et al. 2023, REPAIR, arXiv:2211.08403; for averages along one training, Izmailov et al. 2018, arXiv:1803.05407). As
    in the latter's code (now `torch.optim.swa_utils.update_bn`), each statistic becomes its plain mean over batches.
    What differs: BatchNorm alone is in training mode, with dropout off, on images without augmentation.

    A state whose statistics are to the bit those of one model is that model, or as good as that, and keeps them.
    """

    images: Images
    """The training images drawn, in the order of `select_images`, at the geometry of evaluation; at least two."""
    preprocessing: Preprocessing
    """Mean and std."""
    runtime: Runtime
    """Device and precision."""
    single: frozenset[str] = frozenset()
    """The `statistics_fingerprint` the models of the pool and their start."""

    def settle(self, network: "nn.Module", state: "State") -> None:
        """Compute the statistics of a network anew, in place; counters of batches stay as they are.

        Args:
            network: on the runtime's device, with the weights of `state` in it.
            state: what was put in.
        """
        layers = batchnorm_layers(network)
        if not layers or statistics_fingerprint(state, layers) in self.single:
            return
        kept = {name: (layer.momentum, layer.num_batches_tracked.clone()) for name, layer in layers.items()}
        with inference_mode_at(network, self.runtime):
            for layer in layers.values():
                layer.reset_running_stats()
                layer.momentum = None  # To torch, that is the plain mean over batches.
                layer.training = True  # Of this module alone: timm's may have a dropout inside.
            for rows in np.array_split(np.arange(len(self.images)), max(1, len(self.images) // _BATCH)):
                self._look_at(network, rows)
            for name, layer in layers.items():
                layer.momentum, layer.training = kept[name][0], False
                layer.num_batches_tracked.copy_(kept[name][1])
                for key in _STATISTICS:  # What is judged is what a file of this dtype will hold.
                    statistic = getattr(layer, key)
                    statistic.copy_(statistic.to(state[f"{name}.{key}"].dtype))

    def settled(self, network: "nn.Module", state: "State") -> "dict[str, torch.Tensor]":
        """The state with its statistics computed anew; a new dictionary, on the CPU, in the state's dtypes."""
        self.settle(network, state)
        buffers = dict(network.named_buffers(remove_duplicate=False))
        fresh = {f"{name}.{key}" for name in batchnorm_layers(network) for key in _STATISTICS}
        return {
            key: buffers[key].detach().cpu().to(tensor.dtype).clone() if key in fresh else tensor
            for key, tensor in state.items()
        }

    def _look_at(self, network: "nn.Module", rows: np.ndarray) -> None:
        import torch

        batch_logits(network, torch.from_numpy(self.images.take(rows)), self.preprocessing, self.runtime)


def statistics_fingerprint(state: "State", layers: Iterable[str]) -> str:
    """What stands for the statistics of these layers: equal for equal bits."""
    import torch

    digest = hashlib.sha256()
    for name in layers:
        for key in _STATISTICS:
            digest.update(state[f"{name}.{key}"].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
