"""How much a network computes: multiplications with their additions, counted while it looks at one image."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def multiply_adds(network: "nn.Module", size: int) -> int:
    """Multiply-adds of matrix products, convolutions and attention for one image, as torch's `FlopCounterMode` counts.

    That counter gives two operations for each multiply-add, so this is half of it; what else a network does
    (normalisation, activations, sums) is not counted, as usual in tables of networks.

    Args:
        network: on the CPU, (N, 3, S, S) float32 → anything; left in evaluation mode.
        size: S, in pixels.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    network.eval()
    # Fused attention would be one operation that the counter does not know on a CPU; written out, it is two products.
    # With gradients, torch's transformer layers do not take their own fused way either.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2
