"""Mixup (Zhang et al. 2018, arXiv:1710.09412): convex combinations of pairs of images and of their losses."""

import numpy as np
import torch

from soups.runtime.devices import derived_seed


def mix_batch(inputs: torch.Tensor, alpha: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mix each input of a batch with another input of the batch.

    Args:
        inputs: (B, 3, H, W) float32.
        alpha: both parameters of the share's Beta distribution, above 0.
        seed: decides share and partners, independent of the device.

    Returns:
        The mixed inputs; the partners' positions in the batch, (B,) int64; the share of the first image of each
        pair.
    """
    generator = np.random.default_rng(derived_seed(seed))
    share = float(generator.beta(alpha, alpha))
    partners = torch.from_numpy(generator.permutation(len(inputs))).to(inputs.device)
    return share * inputs + (1 - share) * inputs[partners], partners, share
