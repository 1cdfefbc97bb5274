"""Arithmetic on state dicts: what can be averaged, and averages in double precision."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from soups.core.errors import DataError, UsageError
from soups.weights.chunked_mean import chunked_means
from soups.weights.safetensors_header import Layout, find_difference, is_floating, layout_of

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

INTEGER_RULE = "taken from the first ingredient by hash"
"""What an average does with tensors that are no floating-point numbers (counters such as `num_batches_tracked`, indices
such as `position_ids`): a mean of them means nothing. Callers give ingredients in the order of their hashes."""


def integer_rule(layout: Layout) -> str:
    """Where tensors come from that cannot be averaged, for a soup's card; empty where the model has none."""
    return "" if all(is_floating(dtype) for _, dtype in layout.values()) else INTEGER_RULE


def check_compatible(reference: "State", state: "State", reference_name: str, name: str) -> None:
    """Raise unless both states have the same keys, shapes and dtypes.

    Raises:
        DataError: names the ingredient, the first such tensor (by name), what was expected and what was found.
    """
    _check_layout(layout_of(reference), state, reference_name, name)


def _check_layout(expected: Layout, state: "State", reference_name: str, name: str) -> None:
    if (odd := find_difference(expected, layout_of(state))) is not None:
        raise DataError(
            f"{name}: {odd.problem(reference_name)}",
            expected=odd.expected or f"the tensors of {reference_name}",
            found=odd.found,
            next_step="average only fine-tunes of one model with one list of classes",
        )


def first_not_finite(state: "State") -> str | None:
    """The first floating-point tensor, by name, that holds NaN or infinity; None where there is none.

    Reads each byte once and makes no copy, of contiguous tensors of 16 bits and more.
    """
    import torch

    for key in sorted(state):
        tensor = state[key]
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if tensor.element_size() == 1:  # There is no arithmetic in 8 bits.
            tensor = tensor.to(torch.float32)
        least, greatest = torch.aminmax(tensor.detach())  # NaN if there is one.
        if not (math.isfinite(least.item()) and math.isfinite(greatest.item())):
            return key
    return None


def check_finite(state: "State", name: str) -> None:
    """Raise where a floating-point tensor holds NaN or infinity.

    Raises:
        DataError: names the model and the tensor.
    """
    if (key := first_not_finite(state)) is not None:
        raise DataError(
            f"{name}: tensor {key!r} holds {'NaN' if bool(state[key].isnan().any()) else 'infinity'}",
            expected="finite numbers",
            next_step="its training has diverged: leave this model out",
        )


def _refuse_overflow(mean: "State") -> None:
    """Raise where an average of finite numbers left the range of its dtype, as negative weights can make it."""
    if (key := first_not_finite(mean)) is not None:
        raise DataError(
            f"the average of tensor {key!r} is too large for {mean[key].dtype}",
            expected="finite numbers",
            next_step="choose other weights",
        )


def tied_groups(state: "State") -> dict[str, str]:
    """Each name with the first name, in the state's order, of the very same numbers in memory: itself where not tied.

    Tied tensors begin at one address and have one shape, stride and dtype, such as an embedding that is also the
    output layer. Mapped safetensors files have none, for the format stores each name.
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
    """A running sum of states in float64, so that neither order nor number of ingredients shows in float32.

    Floating-point tensors are summed; all others are those of the first state added (`INTEGER_RULE`). Tensors that are
    tied in all states are summed once and stay tied in the mean. It holds one float64 copy of the state, and nothing
    that the caller holds is changed.
    """

    def __init__(self) -> None:
        self.total: dict[str, torch.Tensor] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.layout: Layout = {}
        self.ties: dict[str, str] = {}
        self.weight = 0.0
        self.first_name = ""

    def copy(self) -> "WeightedSum":
        """An independent copy."""
        other = WeightedSum()
        clones = {key: self.total[key].clone() for key, first in self.ties.items() if key == first}
        other.total = {key: clones[first] for key, first in self.ties.items()}
        other.dtypes, other.layout, other.ties = dict(self.dtypes), dict(self.layout), dict(self.ties)
        other.weight, other.first_name = self.weight, self.first_name
        return other

    def add(self, state: "State", weight: float = 1.0, name: str = "ingredient") -> None:
        """Add `weight` times a state in place.

        Raises:
            DataError: the state does not fit those added before, or holds NaN or infinity; names the tensor.
        """
        import torch

        check_finite(state, name)
        if not self.total:
            self.first_name, self.ties = name, tied_groups(state)
            self.dtypes, self.layout = {key: tensor.dtype for key, tensor in state.items()}, layout_of(state)
            for key, first in self.ties.items():
                tensor = state[key]
                if key != first:
                    self.total[key] = self.total[first]
                else:
                    summed = tensor.is_floating_point()
                    self.total[key] = tensor.to(torch.float64) * weight if summed else tensor.clone()
        else:
            _check_layout(self.layout, state, self.first_name, name)
            self._untie(common_tied_groups(self.ties, tied_groups(state)))
            for key, first in self.ties.items():
                if key == first and state[key].is_floating_point():
                    self.total[key].add_(state[key].to(torch.float64), alpha=weight)
        self.weight += weight

    def mean(self) -> "dict[str, torch.Tensor]":
        """The sum divided by the sum of the weights, in the ingredients' own dtypes."""
        result: dict[str, torch.Tensor] = {}
        for key, first in self.ties.items():
            result[key] = result[first] if key != first else self._divided(key, self.total[key], self.weight)
        return result

    def mean_with(self, state: "State", weight: float = 1.0, name: str = "ingredient") -> "dict[str, torch.Tensor]":
        """What `mean` would be after `add`: the same bits, without changing the sum or copying it as a whole.

        Raises:
            DataError: the state does not fit those added before, or holds NaN or infinity; names the tensor.
        """
        import torch

        if not self.total:
            other = WeightedSum()
            other.add(state, weight, name)
            return other.mean()
        check_finite(state, name)
        _check_layout(self.layout, state, self.first_name, name)
        result: dict[str, torch.Tensor] = {}
        for key, first in common_tied_groups(self.ties, tied_groups(state)).items():
            if key != first:
                result[key] = result[first]
                continue
            total = self.total[key]
            if self.dtypes[key].is_floating_point:
                total = total.add(state[key].to(torch.float64), alpha=weight)
            result[key] = self._divided(key, total, self.weight + weight)
        return result

    def _divided(self, key: str, total: "torch.Tensor", weight: float) -> "torch.Tensor":
        dtype = self.dtypes[key]
        return (total / weight).to(dtype) if dtype.is_floating_point else total.clone()

    def _untie(self, ties: dict[str, str]) -> None:
        """Give what is tied no longer a sum of its own."""
        for key, first in ties.items():
            if key == first and self.ties[key] != key:
                self.total[key] = self.total[key].clone()
            elif key != first:
                self.total[key] = self.total[first]
        self.ties = ties


def average_states(
    states: "Iterable[tuple[str, State]]", weights: Sequence[float] | None = None
) -> "dict[str, torch.Tensor]":
    """The mean of named states, one in memory at a time beside the float64 sum.

    Args:
        states: names (for messages) and states; for bits that do not depend on anything else, in a canonical order.
        weights: one number per state; their sum divides. None: all equal.

    Raises:
        DataError: two states do not fit each other, one holds NaN or infinity, or there is none.
        UsageError: there are more or fewer weights than states, or they sum to zero.
    """
    total, used = WeightedSum(), 0
    for name, state in states:
        if weights is not None and used == len(weights):
            raise UsageError("more models than weights", expected=f"{used} models")
        total.add(state, weight=1.0 if weights is None else weights[used], name=name)
        used += 1
        del state  # The next one must not be loaded beside it.
    if not total.total:
        raise DataError("a soup of no ingredients", expected="at least one model")
    if weights is not None and used < len(weights):
        raise UsageError("more weights than models", expected=f"{used} weights", found=str(len(weights)))
    if total.weight == 0:
        raise UsageError("the weights of a soup sum to zero", expected="a sum above zero")
    mean = total.mean()
    _refuse_overflow(mean)
    return mean


def average_mapped_states(
    states: "Sequence[tuple[str, State]]", weights: Sequence[float] | None = None
) -> "dict[str, torch.Tensor]":
    """The same bits as `average_states`, several times sooner, of states that are all at hand (such as mapped files).

    Piece by piece of each tensor, so that the float64 sum stays in the processor's cache and each ingredient's byte is
    read once; beside the states themselves, the memory is that of the result. Tensors that are tied in all states are
    averaged once and stay tied; those that are no floating-point numbers are the first state's (`INTEGER_RULE`).

    Args:
        states: names (for messages) and states; for bits that do not depend on anything else, in a canonical order.
        weights: one number per state; their sum divides. None: all equal.

    Raises:
        DataError: two states do not fit each other, one holds NaN or infinity, or there is none.
        UsageError: there are more or fewer weights than states, or they sum to zero.
    """
    if not states:
        raise DataError("a soup of no ingredients", expected="at least one model")
    shares = [1.0] * len(states) if weights is None else list(weights)
    if len(shares) != len(states):
        raise UsageError("as many weights as models", expected=str(len(states)), found=str(len(shares)))
    divisor = sum(shares, 0.0)
    if divisor == 0:
        raise UsageError("the weights of a soup sum to zero", expected="a sum above zero")
    (first_name, first), *others = states
    for name, state in others:
        check_compatible(first, state, first_name, name)
    ties = tied_groups(first)
    for _, state in others:
        ties = common_tied_groups(ties, tied_groups(state))
    columns = {
        key: [state[key] for _, state in states]
        for key, tensor in first.items()
        if ties[key] == key and tensor.is_floating_point()
    }
    summed = chunked_means(columns, shares, divisor)
    if (key := first_not_finite(summed)) is not None:  # As it is whenever an ingredient is not.
        for name, state in states:
            check_finite({key: state[key]}, name)
        _refuse_overflow(summed)
    own = {key: first[key].clone() for key in first if ties[key] == key and key not in summed}
    return {key: (summed if ties[key] in summed else own)[ties[key]] for key in first}
