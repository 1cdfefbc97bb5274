"""Counts a network's multiply-adds for one image."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def count_multiply_adds(network: "nn.Module", size: int) -> int:
    """Returns the multiply-adds of matrix products, convolutions and attention for one image.

    Half of the count of torch's `FlopCounterMode`, which counts two operations a multiply-add. Normalisation,
    activations and sums are not counted, as usual in tables of networks.

    Args:
        network: on the CPU, takes (N, 3, S, S) float32; left in evaluation mode.
        size: S, in pixels.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    network.eval()
    # The counter does not know fused attention on a CPU; the math backend computes it as two matrix products.
    # With gradients enabled, torch's transformer layers do not take their own fused path either.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2
