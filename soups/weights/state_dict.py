"""Means of state dicts in float64, of mapped or streamed states, and checks that states fit and are finite."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from soups.core.errors import DataError, UsageError
from soups.weights.chunked_mean import chunked_means
from soups.weights.safetensors_header import Layout, find_difference, is_floating, layout_of

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

INTEGER_RULE = "taken from the first ingredient by hash"
"""The origin of tensors that are not floating-point (counters such as `num_batches_tracked`, indices such as
`position_ids`), whose mean is meaningless. Callers pass ingredients in the order of their hashes."""


def integer_rule(layout: Layout) -> str:
    """Return the card's sentence on tensors that cannot be averaged; empty if the model has none."""
    return "" if all(is_floating(dtype) for _, dtype in layout.values()) else INTEGER_RULE


def check_compatible(reference: "State", state: "State", reference_name: str, name: str) -> None:
    """Raise unless both states have the same keys, shapes and dtypes.

    Raises:
        DataError: the message names the ingredient and the first tensor, by name, that differs.
    """
    _require_layout(layout_of(reference), state, reference_name, name)


def _require_layout(expected: Layout, state: "State", reference_name: str, name: str) -> None:
    if (difference := find_difference(expected, layout_of(state))) is not None:
        raise DataError(
            f"{name}: {difference.problem(reference_name)}",
            expected=difference.expected or f"the tensors of {reference_name}",
            found=difference.found,
            next_step="average only fine-tunes of one model with one list of classes",
        )


def first_not_finite(state: "State") -> str | None:
    """Return the first floating-point tensor, by name, that holds NaN or infinity; None if all are finite.

    For contiguous tensors of 16 bits and more, each byte is read once and nothing is copied.
    """
    import torch

    for key in sorted(state):
        tensor = state[key]
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if tensor.element_size() == 1:  # torch has no arithmetic in 8 bits.
            tensor = tensor.to(torch.float32)
        least, greatest = torch.aminmax(tensor.detach())  # Both are NaN if an element is.
        if not (math.isfinite(least.item()) and math.isfinite(greatest.item())):
            return key
    return None


def check_finite(state: "State", name: str) -> None:
    """Raise if a floating-point tensor holds NaN or infinity.

    Raises:
        DataError: the message names the model and the tensor.
    """
    if (key := first_not_finite(state)) is not None:
        raise DataError(
            f"{name}: tensor {key!r} holds {'NaN' if bool(state[key].isnan().any()) else 'infinity'}",
            expected="finite numbers",
            next_step="its training has diverged: leave this model out",
        )


def _require_finite_mean(mean: "State") -> None:
    """Raise if a mean of finite numbers exceeds the range of its dtype, which is possible with negative weights."""
    if (key := first_not_finite(mean)) is not None:
        raise DataError(
            f"the average of tensor {key!r} is too large for {mean[key].dtype}",
            expected="finite numbers",
            next_step="choose other weights",
        )


def tied_groups(state: "State") -> dict[str, str]:
    """Return for each name the first name, in the state's order, of the same memory: itself if it is not tied.

    Tied tensors share address, shape, stride and dtype, such as an embedding that is also the output layer. States from
    mapped safetensors files have none, because the format stores a copy for each name.
    """
    first: dict[tuple[object, ...], str] = {}
    return {
        key: first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), key)
        if tensor.numel()
        else key
        for key, tensor in state.items()
    }


def common_tied_groups(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Return `tied_groups` of the names that are tied in both of two states, in the order of the first."""
    first: dict[tuple[str, str], str] = {}
    return {key: first.setdefault((one[key], other[key]), key) for key in one}


class WeightedSum:
    """A running sum of states in float64: the order of the ingredients does not change their mean in float32.

    Floating-point tensors are summed; all others are copied from the first state added (`INTEGER_RULE`). Tensors that
    are tied in all states are summed once and stay tied in the mean. The sum holds one float64 copy of the state and
    does not change the states added.
    """

    def __init__(self) -> None:
        self.total: dict[str, torch.Tensor] = {}
        """The sums, by the first name of each group of tied tensors."""
        self.dtypes: dict[str, torch.dtype] = {}
        self.layout: Layout = {}
        self.ties: dict[str, str] = {}
        self.weight = 0.0
        self.first_name = ""

    def add(self, state: "State", weight: float = 1.0, name: str = "ingredient") -> None:
        """Add `weight` times a state in place.

        Raises:
            DataError: the state does not fit those added before, or holds NaN or infinity; the message names the
            tensor.
        """
        import torch

        check_finite(state, name)
        if not self.total:
            self.first_name, self.ties = name, tied_groups(state)
            self.dtypes, self.layout = {key: tensor.dtype for key, tensor in state.items()}, layout_of(state)
            for key in self.ties.values():
                if key not in self.total:
                    floating = self.dtypes[key].is_floating_point
                    self.total[key] = state[key].to(torch.float64) * weight if floating else state[key].clone()
        else:
            _require_layout(self.layout, state, self.first_name, name)
            ties = common_tied_groups(self.ties, tied_groups(state))
            for key in ties.values():
                if key not in self.total:  # It is not tied any more.
                    self.total[key] = self.total[self.ties[key]].clone()
            self.ties = ties
            for key, total in self.total.items():
                if self.dtypes[key].is_floating_point:
                    total.add_(state[key].to(torch.float64), alpha=weight)
        self.weight += weight

    def mean(self) -> "dict[str, torch.Tensor]":
        """Return the sum divided by the sum of the weights, in the ingredients' dtypes."""
        return self._divide(self.ties, self.total.__getitem__, self.weight)

    def mean_with(self, state: "State", weight: float = 1.0, name: str = "ingredient") -> "dict[str, torch.Tensor]":
        """Return the bits that `mean` would return after `add`, without changing or copying the whole sum.

        Raises:
            DataError: the state does not fit those added before, or holds NaN or infinity; the message names the
            tensor.
        """
        import torch

        if not self.total:
            other = WeightedSum()
            other.add(state, weight, name)
            return other.mean()
        check_finite(state, name)
        _require_layout(self.layout, state, self.first_name, name)

        def total(key: str) -> torch.Tensor:
            before = self.total[self.ties[key]]
            floating = self.dtypes[key].is_floating_point
            return before.add(state[key].to(torch.float64), alpha=weight) if floating else before

        return self._divide(common_tied_groups(self.ties, tied_groups(state)), total, self.weight + weight)

    def _divide(
        self, ties: dict[str, str], total: "Callable[[str], torch.Tensor]", weight: float
    ) -> "dict[str, torch.Tensor]":
        """Return the totals divided by a weight, one in memory at a time; tied tensors stay tied."""
        result: dict[str, torch.Tensor] = {}
        for key, first in ties.items():
            dtype = self.dtypes[key]
            if key != first:
                result[key] = result[first]
            else:
                result[key] = (total(key) / weight).to(dtype) if dtype.is_floating_point else total(key).clone()
        return result


def average_states(
    states: "Iterable[tuple[str, State]]", weights: Sequence[float] | None = None, *, mapped: bool = False
) -> "dict[str, torch.Tensor]":
    """Return the weighted mean of named states in their dtypes, summed in float64 in the order given.

    Tensors that are tied in all states are averaged once and stay tied; tensors that are not floating-point are those
    of the first state (`INTEGER_RULE`).

    Args:
        states: names, for messages, and states in canonical order.
        weights: one number for each state; the sum is divided by their sum. None: all equal.
        mapped: the states take no memory, because they are views of files. They are read side by side, chunk by chunk,
            which is several times faster and needs the memory of the result alone. False reads one state after the
            other into a float64 sum. Both give the same bits.

    Raises:
        DataError: two states do not fit each other, one holds NaN or infinity, or there is no state.
        UsageError: the number of weights is not the number of states, or their sum is zero.
    """
    mean = (_average_mapped if mapped else _average_streamed)(states, weights)
    _require_finite_mean(mean)
    return mean


def _average_streamed(
    states: "Iterable[tuple[str, State]]", weights: Sequence[float] | None
) -> "dict[str, torch.Tensor]":
    total, count = WeightedSum(), 0
    for name, state in states:
        if weights is not None and count == len(weights):
            raise _weights_error(weights)
        total.add(state, weight=1.0 if weights is None else weights[count], name=name)
        count += 1
        del state  # Frees it before the next state is loaded.
    _require_weights(count, weights, total.weight)
    return total.mean()


def _average_mapped(
    states: "Iterable[tuple[str, State]]", weights: Sequence[float] | None
) -> "dict[str, torch.Tensor]":
    states = list(states)
    factors = [1.0] * len(states) if weights is None else list(weights)
    divisor = sum(factors, 0.0)
    _require_weights(len(states), weights, divisor)
    (first_name, first), *others = states
    for name, state in others:
        check_compatible(first, state, first_name, name)
    ties = reduce(common_tied_groups, (tied_groups(state) for _, state in states))
    columns = {
        key: [state[key] for _, state in states]
        for key, tensor in first.items()
        if ties[key] == key and tensor.is_floating_point()
    }
    means = chunked_means(columns, factors, divisor)
    if (key := first_not_finite(means)) is not None:  # A mean is not finite if an ingredient is not.
        for name, state in states:
            check_finite({key: state[key]}, name)
    copies = {key: first[key].clone() for key in first if ties[key] == key and key not in means}
    return {key: (means if ties[key] in means else copies)[ties[key]] for key in first}


def _require_weights(states: int, weights: Sequence[float] | None, total: float) -> None:
    if states == 0:
        raise DataError("a soup of no ingredients", expected="at least one model")
    if weights is not None and len(weights) != states:
        raise _weights_error(weights)
    if total == 0:
        raise UsageError("the weights of a soup sum to zero", expected="a sum above zero")


def _weights_error(weights: Sequence[float]) -> UsageError:
    return UsageError(
        "the numbers of weights and models differ",
        expected="one weight for each model",
        found=f"{len(weights)} weights",
    )
