"""Gradients of the validation log-loss with respect to the weights, and the diagonal of the Fisher information."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing, normalise
from soups.evaluation.logits import EvaluationSet
from soups.runtime.devices import Runtime, autocast, derived_seed

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = Mapping[str, torch.Tensor]

MIN_PARTS = 8
"""Minimum number of parts that the images are split into; each gradient uses one part."""
MAX_PART_IMAGES = 1024
"""Maximum images of one part; more images give more parts."""
MAX_FISHER_IMAGES = 256
"""Maximum images for the Fisher information."""
_MIN_BUDGET = 2**28
"""Bytes that a forward pass may save for its backward pass; for larger models, the size of their parameters."""


def assign_weights(network: "nn.Module", state: "State") -> None:
    """Copies a state into a network one tensor at a time, so that a lazy state need not hold all of them.

    Raises:
        DataError: names or shapes differ; the message names the tensor.
    """
    import torch

    targets = network.state_dict(keep_vars=True)
    for key in sorted(targets.keys() ^ state.keys()):
        raise DataError(f"the tensor {key!r} is {'missing' if key in targets else 'not one of this network'}")
    with torch.no_grad():
        for key, target in targets.items():
            tensor = state[key]
            if tensor.shape != target.shape:
                raise DataError(
                    f"the tensor {key!r} has another shape", expected=str([*target.shape]), found=str([*tensor.shape])
                )
            target.copy_(tensor)


def sample_images(images: int, seed: int) -> np.ndarray:
    """Returns the indices of the images for one gradient: (B,) int64, sorted.

    Seed s uses part s mod P of the shuffle number s div P, so P consecutive seeds from a multiple of P use each image
    once. P is 8, or larger so that a part has at most 1,024 images.

    Args:
        images: number of validation images.
        seed: number of the gradient.
    """
    parts = min(images, max(MIN_PARTS, -(-images // MAX_PART_IMAGES)))
    shuffle, part = divmod(seed, parts)
    order = np.random.default_rng(derived_seed(shuffle)).permutation(images)
    return np.sort(order[part::parts])


def log_loss_gradient(
    network: "nn.Module",
    validation: EvaluationSet,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    runtime: Runtime,
    batch_size: int,
) -> "tuple[float, dict[str, torch.Tensor]]":
    """Returns the mean log-loss on some images, and its gradient at the network's weights.

    The network is in evaluation mode: no dropout, and BatchNorm statistics are constants. The batches are small enough
    that the tensors saved for the backward pass stay within 256 MiB or the size of the model.

    Args:
        network: on the runtime's device.
        validation: labelled images at the geometry of `preprocessing`.
        rows: (B,) indices of the images, at least one.
        preprocessing: mean and standard deviation.
        runtime: device and precision of the forward pass; fp16 is run as fp32, because small gradients would underflow.
        batch_size: maximum images in one pass.

    Returns:
        The loss in nats, and state-dict name → gradient, float32 on the CPU, for every floating-point tensor: zeros for
        buffers and for parameters without influence. The network's own gradients are removed.
    """
    import torch
    import torch.nn.functional as F

    network.eval()
    first = _load_inputs(validation, rows[:1], preprocessing, runtime)
    size = min(batch_size, _max_batch(network, first, runtime))
    total = 0.0
    network.zero_grad(set_to_none=True)
    with torch.enable_grad():
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            labels = torch.from_numpy(validation.labels[part]).to(runtime.device)
            inputs = _load_inputs(validation, part, preprocessing, runtime)
            with _gradient_precision(runtime):
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / len(rows)
            if loss.requires_grad:  # False if all weights are frozen.
                loss.backward()
            total += loss.item()
    return total, _take_gradients(network)


def fisher_diagonal(
    network: "nn.Module", validation: EvaluationSet, preprocessing: Preprocessing, runtime: Runtime, seed: int
) -> "dict[str, torch.Tensor]":
    """Returns the diagonal of the Fisher information at the network's weights.

    F = E_x E_{y ~ p(y|x)} (∂ log p(y|x) / ∂ weight)² (Matena & Raffel 2022, arXiv:2111.09832, section 3.2). The outer
    mean is over up to 256 images drawn by `seed`. The inner mean is estimated with one label an image, drawn from the
    network's prediction, as in the paper for large label spaces (its code uses all labels if there are few classes).
    One image at a time, so that memory holds the network, the result and one gradient.

    Args:
        network: on the runtime's device.
        validation: images at the geometry of `preprocessing`; labels are not used.
        preprocessing: mean and standard deviation.
        runtime: device and precision, as in `log_loss_gradient`.
        seed: seed of the draw of images and labels; the same draws for every network.

    Returns:
        State-dict name → float32 on the CPU, for every floating-point tensor; zeros for buffers.
    """
    import torch
    import torch.nn.functional as F

    network.eval()
    generator = np.random.default_rng(derived_seed(seed))
    rows = np.sort(generator.permutation(len(validation.labels))[:MAX_FISHER_IMAGES])
    uniforms = generator.random(len(rows))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    with torch.enable_grad():
        for row, uniform in zip(rows, uniforms, strict=True):
            network.zero_grad(set_to_none=True)
            inputs = _load_inputs(validation, np.array([row]), preprocessing, runtime)
            with _gradient_precision(runtime):
                logits = network(inputs)
            logs = F.log_softmax(logits.float()[0], dim=0)
            # The class that the uniform number selects, by the inverse of the distribution function.
            bounds = np.cumsum(logs.detach().double().exp().cpu().numpy())
            label = min(np.searchsorted(bounds, uniform * bounds[-1], side="right"), len(bounds) - 1)
            if logs.requires_grad:
                logs[int(label)].backward()
            for total, parameter in zip(sums, parameters, strict=True):
                if parameter.grad is not None:
                    total.addcmul_(parameter.grad, parameter.grad, value=1 / len(rows))
    for total, parameter in zip(sums, parameters, strict=True):
        parameter.grad = total
    return _take_gradients(network)


def _load_inputs(
    validation: EvaluationSet, rows: np.ndarray, preprocessing: Preprocessing, runtime: Runtime
) -> "torch.Tensor":
    """Returns the inputs (B, 3, S, S) of the images `rows` (B,) on the runtime's device."""
    import torch

    pixels = torch.from_numpy(validation.images.take(rows))
    return normalise(pixels.to(runtime.device, non_blocking=True), preprocessing)


def _gradient_precision(runtime: Runtime) -> AbstractContextManager[object]:
    return nullcontext() if runtime.precision == "fp16" else autocast(runtime)


def _max_batch(network: "nn.Module", image: "torch.Tensor", runtime: Runtime) -> int:
    """Returns the batch size whose saved tensors fit the budget, estimated from the bytes that a second image adds."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    saved = [_saved_bytes(network, image.expand(number, -1, -1, -1), runtime) for number in (1, 2)]
    return int(max(_MIN_BUDGET, size) // max(1, saved[1] - saved[0])) or 1


def _saved_bytes(network: "nn.Module", images: "torch.Tensor", runtime: Runtime) -> int:
    """Returns the bytes that a forward pass saves for the backward pass."""
    import torch

    saved: dict[int, int] = {}

    def note_storage(tensor: "torch.Tensor") -> "torch.Tensor":
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # Saving the tensor itself would keep its graph alive in a reference cycle.

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note_storage, lambda tensor: tensor):
        with _gradient_precision(runtime):
            logits = network(images)
        # The graph must live until here: freed memory is reused at the same address.
        del logits
    return sum(saved.values())


def _take_gradients(network: "nn.Module") -> "dict[str, torch.Tensor]":
    """Returns the gradient of each floating-point tensor of the state, float32 on the CPU; clears the network's."""
    import torch

    gradients = {
        name: torch.zeros(()).expand(tensor.shape)
        if tensor.grad is None
        else tensor.grad.detach().to("cpu", torch.float32)
        for name, tensor in network.state_dict(keep_vars=True).items()
        if tensor.is_floating_point()
    }
    network.zero_grad(set_to_none=True)
    return gradients
