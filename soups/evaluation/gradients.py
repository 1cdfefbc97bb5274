"""What the validation images say of every single weight: gradients of the log-loss, and the Fisher information."""

from collections.abc import Callable, Iterator, Mapping
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
    Inputs = Callable[[np.ndarray], torch.Tensor]

PARTS = 8
"""Into so many parts the images are drawn, one for each gradient, at the least."""
LARGEST_PART = 1024
"""Images of one gradient at the most; of more images there are more parts."""
FISHER_IMAGES = 256
"""Images that the Fisher information is taken of, at the most."""
_ROOM = 2**28
"""Bytes that one backward pass may always keep of its forward pass; for larger models, as many as they have."""


def assign_weights(network: "nn.Module", state: "State") -> None:
    """Put a state in the place of a network's weights, a tensor at a time: the state may make each when it is asked.

    Raises:
        DataError: names or shapes differ; names the tensor.
    """
    import torch

    places = network.state_dict(keep_vars=True)
    for key in sorted(places.keys() ^ state.keys()):
        raise DataError(f"the tensor {key!r} is {'missing' if key in places else 'not one of this network'}")
    with torch.no_grad():
        for key, place in places.items():
            tensor = state[key]
            if tensor.shape != place.shape:
                raise DataError(
                    f"the tensor {key!r} has another shape", expected=str([*place.shape]), found=str([*tensor.shape])
                )
            place.copy_(tensor)


def sample_images(images: int, seed: int) -> np.ndarray:
    """Which images a gradient is taken of: (B,) int64, sorted.

    Seeds that follow one another go through all images before one comes again: seed s takes part s mod P of the
    shuffle number s div P, where P is 8, or more so that a part has no more than 1,024 images.
    """
    parts = min(images, max(PARTS, -(-images // LARGEST_PART)))
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
    """Mean log-loss on some images and its gradient at the weights that are in the network.

    The network is in evaluation mode: no dropout, and statistics of BatchNorm count as constants. Images are taken so
    few at a time that what a backward pass needs of them stays within 256 MiB or the size of the model.

    Args:
        network: on the runtime's device.
        validation: labelled images at the geometry of `preprocessing`.
        rows: (B,) which of them, at least one.
        preprocessing: mean and std.
        runtime: device and precision of the forward pass; fp16 counts as fp32, because small gradients would be lost.
        batch_size: images at a time at the most.

    Returns:
        The loss in nats, and state-dict name → gradient in float32 on the CPU: for every floating-point tensor, zeros
        where it has no influence or is no parameter. Nothing of it stays in the network.
    """
    import torch
    import torch.nn.functional as F

    network.eval()
    inputs = _inputs(validation, preprocessing, runtime)
    size = min(batch_size, _images_at_a_time(network, inputs(rows[:1]), runtime))
    total = 0.0
    network.zero_grad(set_to_none=True)
    with torch.enable_grad():
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            labels = torch.from_numpy(validation.labels[part]).to(runtime.device)
            with _precision(runtime):
                logits = network(inputs(part))
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / len(rows)
            _backward(loss)
            total += loss.item()
    return total, _taken_gradients(network)


def fisher_diagonal(
    network: "nn.Module", validation: EvaluationSet, preprocessing: Preprocessing, runtime: Runtime, seed: int
) -> "dict[str, torch.Tensor]":
    """The diagonal of the Fisher information at the weights that are in the network.

    F = E_x E_{y ~ p(y|x)} (∂ log p(y|x) / ∂ weight)² (Matena & Raffel 2022, arXiv:2111.09832, section 3.2). The outer
    mean is over up to 256 images drawn by `seed`; as in the paper's large label spaces, of the inner one a single label
    is drawn for each image from the network's own prediction (the paper's code takes all where classes are few). One
    image at a time, so beside network and result there is one gradient in memory.

    Args:
        network: on the runtime's device.
        validation: images at the geometry of `preprocessing`; their labels are not looked at.
        preprocessing: mean and std.
        runtime: device and precision, as in `log_loss_gradient`.
        seed: of the draw of images and labels: the same for every network.

    Returns:
        State-dict name → float32 on the CPU, for every floating-point tensor; zeros where it is no parameter.
    """
    import torch
    import torch.nn.functional as F

    network.eval()
    inputs = _inputs(validation, preprocessing, runtime)
    generator = np.random.default_rng(derived_seed(seed))
    rows = np.sort(generator.permutation(len(validation.labels))[:FISHER_IMAGES])
    throws = generator.random(len(rows))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    with torch.enable_grad():
        for row, throw in zip(rows, throws, strict=True):
            network.zero_grad(set_to_none=True)
            with _precision(runtime):
                logits = network(inputs(np.array([row])))
            logs = F.log_softmax(logits.float()[0], dim=0)
            _backward(logs[_drawn(logs.detach().double().exp().cpu().numpy(), throw)])
            for total, parameter in zip(sums, parameters, strict=True):
                if parameter.grad is not None:
                    total.addcmul_(parameter.grad, parameter.grad, value=1 / len(rows))
    for total, parameter in zip(sums, parameters, strict=True):
        parameter.grad = total
    return _taken_gradients(network)


def _drawn(probabilities: np.ndarray, throw: float) -> int:
    """The class on which a throw in [0, 1) falls."""
    bounds = np.cumsum(probabilities)
    return int(min(np.searchsorted(bounds, throw * bounds[-1], side="right"), len(bounds) - 1))


def _inputs(validation: EvaluationSet, preprocessing: Preprocessing, runtime: Runtime) -> "Inputs":
    import torch

    def inputs(rows: np.ndarray) -> "torch.Tensor":
        pixels = torch.from_numpy(validation.images.take(rows))
        return normalise(pixels.to(runtime.device, non_blocking=True), preprocessing)

    return inputs


def _precision(runtime: Runtime) -> AbstractContextManager[object]:
    return nullcontext() if runtime.precision == "fp16" else autocast(runtime)


def _images_at_a_time(network: "nn.Module", one: "torch.Tensor", runtime: Runtime) -> int:
    """How many images' forward passes can be kept for a backward pass, from what a second image adds to the first."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    kept = [_kept_bytes(network, one.expand(number, -1, -1, -1), runtime) for number in (1, 2)]
    return int(max(_ROOM, size) // max(1, kept[1] - kept[0])) or 1


def _kept_bytes(network: "nn.Module", images: "torch.Tensor", runtime: Runtime) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    import torch

    kept: dict[int, int] = {}

    def look(tensor: "torch.Tensor") -> "torch.Tensor":
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # The tensor itself would keep its own graph alive for ever.

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        with _precision(runtime):
            logits = network(images)
        # The graph has to live until here: freed memory comes again at the same address.
        del logits
    return sum(kept.values())


def _backward(value: "torch.Tensor") -> None:
    if value.requires_grad:  # As it does not where all weights are frozen.
        value.backward()


def _taken_gradients(network: "nn.Module") -> "dict[str, torch.Tensor]":
    return dict(_gradients(network))


def _gradients(network: "nn.Module") -> "Iterator[tuple[str, torch.Tensor]]":
    """Name and gradient of each floating-point tensor of the state; the network's own are gone after that."""
    import torch

    for name, tensor in network.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            continue
        if tensor.grad is None:
            yield name, torch.zeros(()).expand(tensor.shape)
        else:
            yield name, tensor.grad.detach().to("cpu", torch.float32)
    network.zero_grad(set_to_none=True)
