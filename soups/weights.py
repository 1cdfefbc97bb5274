"""Arithmetic on state dicts: what can be averaged, and averages in double precision."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from soups.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

_PIECE = 1 << 17
"""Elements summed at a time: 1 MiB in float64."""


def check_compatible(reference: "State", state: "State", reference_name: str, name: str) -> None:
    """Raise unless both states have the same keys, shapes and dtypes.

    Raises:
        DataError: names the ingredient, the first such tensor (by name), what was expected and what was found.
    """
    for key in sorted(reference.keys() | state.keys()):
        if key not in state:
            raise DataError(f"{name}: lacks the tensor {key!r}", expected=f"the tensors of {reference_name}")
        if key not in reference:
            raise DataError(f"{name}: has an extra tensor {key!r}", expected=f"the tensors of {reference_name}")
        expected, found = reference[key], state[key]
        if expected.shape != found.shape or expected.dtype != found.dtype:
            raise DataError(
                f"{name}: tensor {key!r} does not fit {reference_name}",
                expected=f"{tuple(expected.shape)} {expected.dtype}",
                found=f"{tuple(found.shape)} {found.dtype}",
                next_step="average only fine-tunes of one model with one list of classes",
            )


class WeightedSum:
    """A running sum of states in float64, so that neither order nor number of ingredients shows in float32.

    Floating-point tensors are summed; all others (counters such as `num_batches_tracked`) are taken from the first
    state added, because a mean of counters means nothing. It holds one float64 copy of the state, and nothing that the
    caller holds is changed.
    """

    def __init__(self) -> None:
        self.total: dict[str, torch.Tensor] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.weight = 0.0
        self.first_name = ""

    def copy(self) -> "WeightedSum":
        """An independent copy."""
        other = WeightedSum()
        other.total = {key: tensor.clone() for key, tensor in self.total.items()}
        other.dtypes, other.weight, other.first_name = dict(self.dtypes), self.weight, self.first_name
        return other

    def add(self, state: "State", weight: float = 1.0, name: str = "ingredient") -> None:
        """Add `weight` times a state in place.

        Raises:
            DataError: the state does not fit those added before, or holds NaN; names the tensor.
        """
        import torch

        refuse_nan(state, name)
        if not self.total:
            self.first_name = name
            self.dtypes = {key: tensor.dtype for key, tensor in state.items()}
            self.total = {
                key: tensor.to(torch.float64) * weight if tensor.is_floating_point() else tensor.clone()
                for key, tensor in state.items()
            }
        else:
            self._check(state, name)
            for key, tensor in state.items():
                if tensor.is_floating_point():
                    self.total[key].add_(tensor.to(torch.float64), alpha=weight)
        self.weight += weight

    def mean(self) -> "dict[str, torch.Tensor]":
        """The sum divided by the sum of the weights, in the ingredients' own dtypes."""
        return {
            key: (tensor / self.weight).to(self.dtypes[key]) if self.dtypes[key].is_floating_point else tensor.clone()
            for key, tensor in self.total.items()
        }

    def mean_with(self, state: "State", weight: float = 1.0, name: str = "ingredient") -> "dict[str, torch.Tensor]":
        """What `mean` would be after `add`: the same bits, without changing the sum or copying it as a whole.

        Raises:
            DataError: the state does not fit those added before, or holds NaN; names the tensor.
        """
        import torch

        if not self.total:
            other = WeightedSum()
            other.add(state, weight, name)
            return other.mean()
        refuse_nan(state, name)
        self._check(state, name)
        return {
            key: (tensor.add(state[key].to(torch.float64), alpha=weight) / (self.weight + weight)).to(self.dtypes[key])
            if self.dtypes[key].is_floating_point
            else tensor.clone()
            for key, tensor in self.total.items()
        }

    def _check(self, state: "State", name: str) -> None:
        import torch

        meta = {
            key: torch.empty(tensor.shape, dtype=self.dtypes[key], device="meta") for key, tensor in self.total.items()
        }
        check_compatible(meta, state, self.first_name, name)


def refuse_nan(state: "State", name: str) -> None:
    """Raise where a floating-point tensor holds NaN.

    Raises:
        DataError: names the model and the tensor.
    """
    for key in sorted(state):
        if state[key].is_floating_point() and bool(state[key].isnan().any()):
            raise DataError(
                f"{name}: tensor {key!r} holds NaN",
                expected="numbers",
                next_step="its training has diverged: leave this model out",
            )


def average(states: "Iterable[tuple[str, State]]", weights: Sequence[float] | None = None) -> "dict[str, torch.Tensor]":
    """The mean of named states, one in memory at a time beside the float64 sum.

    Args:
        states: names (for messages) and states; for bits that do not depend on anything else, in a canonical order.
        weights: one number per state; their sum divides. None: all equal.

    Raises:
        DataError: two states do not fit each other, one holds NaN, or there is none.
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
    return total.mean()


def average_mapped(
    states: "Sequence[tuple[str, State]]", weights: Sequence[float] | None = None
) -> "dict[str, torch.Tensor]":
    """The same bits as `average`, several times sooner, of states that are all at hand (such as mapped files).

    Piece by piece of each tensor, so that the float64 sum stays in the processor's cache and each ingredient's byte is
    read once; beside the states themselves, the memory is that of the result.

    Args:
        states: names (for messages) and states; for bits that do not depend on anything else, in a canonical order.
        weights: one number per state; their sum divides. None: all equal.

    Raises:
        DataError: two states do not fit each other, one holds NaN, or there is none.
        UsageError: there are more or fewer weights than states, or they sum to zero.
    """
    import torch

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
    result = {}
    for key, tensor in first.items():
        if not tensor.is_floating_point():
            result[key] = tensor.clone()
            continue
        result[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
        columns = [state[key].reshape(-1) for _, state in states]
        _mean_by_pieces(result[key].view(-1), columns, shares, divisor)
        if bool(result[key].isnan().any()):
            for name, state in states:
                refuse_nan({key: state[key]}, name)
    return result


def _mean_by_pieces(
    out: "torch.Tensor", columns: "Sequence[torch.Tensor]", shares: Sequence[float], divisor: float
) -> None:
    import torch

    for begin in range(0, len(out), _PIECE):
        piece = slice(begin, begin + _PIECE)
        total = columns[0][piece].to(torch.float64) * shares[0]
        for column, share in zip(columns[1:], shares[1:], strict=True):
            total.add_(column[piece].to(torch.float64), alpha=share)
        out[piece] = total.div_(divisor)
