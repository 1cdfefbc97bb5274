"""Arithmetic on state dicts: what can be averaged, and averages in double precision."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from soups.errors import DataError

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]


def check_compatible(reference: "State", state: "State", reference_name: str, name: str) -> None:
    """Raise unless both states have the same keys, shapes and dtypes.

    Raises:
        DataError: names the ingredient, the tensor, what was expected and what was found.
    """
    for key in reference.keys() | state.keys():
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
    state added, because a mean of counters means nothing.
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
            DataError: the state does not fit those added before.
        """
        import torch

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

    def _check(self, state: "State", name: str) -> None:
        import torch

        meta = {
            key: torch.empty(tensor.shape, dtype=self.dtypes[key], device="meta") for key, tensor in self.total.items()
        }
        check_compatible(meta, state, self.first_name, name)


def average(states: "Iterable[tuple[str, State]]") -> "dict[str, torch.Tensor]":
    """The plain mean of named states, one in memory at a time.

    Raises:
        DataError: two states do not fit each other, or there is none.
    """
    total = WeightedSum()
    for name, state in states:
        total.add(state, name=name)
    if not total.total:
        raise DataError("a soup of no ingredients", expected="at least one model")
    return total.mean()
