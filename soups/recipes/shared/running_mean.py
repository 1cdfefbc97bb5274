"""The sum behind a soup that grows or shrinks: ingredients are read when needed, once, and the next one ahead."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from soups.recipes.shared.pool import Ingredient
from soups.weights.state_dict import WeightedSum

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

_PAGE = 4096
"""Bytes; touching one of each page brings a mapped file into memory."""


class RunningSum:
    """The float64 sum of ingredients that were added (or taken away) one by one, and the soups next to it.

    What is added is read when a mean is asked for, unless it is in hand because its candidate was made last. While a
    candidate is judged, a thread brings the one named as the following into memory, if it is a mapped file (others
    would take memory that nobody planned for): never more than one. So in memory are the sum, one ingredient and its
    candidate, and of mapped files what the operating system spares.

    A context manager: leaving it ends the thread and lets go of the sum.
    """

    def __init__(self) -> None:
        self._sum = WeightedSum()
        self._pending: list[tuple[Ingredient, float]] = []
        self._in_hand: tuple[Ingredient, State] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: tuple[Ingredient, Future[State]] | None = None

    def __enter__(self) -> "RunningSum":
        return self

    def __exit__(self, *_: object) -> None:
        self._sum = WeightedSum()  # Nobody has room for two of them.
        self._in_hand = self._ahead = None
        self._reader.shutdown(wait=True, cancel_futures=True)

    def add(self, ingredient: Ingredient, weight: float = 1.0) -> None:
        """Add an ingredient to the sum, or take it away with a weight of -1; it need not be read for that now.

        Raises:
            DataError: it does not fit those before, or holds NaN (or later, when a mean is asked for).
        """
        if self._pending or self._in_hand is None or self._in_hand[0] is not ingredient:
            self._pending.append((ingredient, weight))
            return
        self._sum.add(self._in_hand[1], weight, ingredient.name)
        self._in_hand = None

    def mean(self) -> "dict[str, torch.Tensor]":
        """The mean of what was added.

        Raises:
            DataError: an ingredient does not fit those before, or holds NaN.
        """
        self._settle()
        return self._sum.mean()

    def mean_with(
        self, ingredient: Ingredient, weight: float = 1.0, following: Ingredient | None = None
    ) -> "dict[str, torch.Tensor]":
        """What the mean would be with one more; `following` is read in the meantime.

        Raises:
            DataError: an ingredient does not fit those before, or holds NaN.
        """
        self._settle()
        state = self._read(ingredient)
        self._in_hand = ingredient, state
        if following is not None and following.mapped and (self._ahead is None or self._ahead[0] is not following):
            self._ahead = following, self._reader.submit(_read_whole, following)
        return self._sum.mean_with(state, weight, ingredient.name)

    def _settle(self) -> None:
        """Read and add what is still to be added."""
        self._in_hand = None  # The next one must not be loaded beside it.
        for ingredient, weight in self._pending:
            self._sum.add(self._read(ingredient), weight, ingredient.name)
        self._pending = []

    def _read(self, ingredient: Ingredient) -> "State":
        if self._ahead is None or self._ahead[0] is not ingredient:
            return ingredient.load()
        future, self._ahead = self._ahead[1], None
        return future.result()


def _read_whole(ingredient: Ingredient) -> "State":
    """Map an ingredient's file and touch every page."""
    import torch

    state = ingredient.load()
    for tensor in state.values():
        if tensor.is_contiguous():
            # NumPy, because torch would set up threads of its own for this one.
            tensor.reshape(-1).view(torch.uint8).numpy()[::_PAGE].max(initial=0)
    return state


def equal_tensors(one: "State", other: "State") -> bool:
    """Whether the tensors that are averaged are equal to the bit; counters do not change what a model says."""
    return all(not one[key].is_floating_point() or bool((one[key] == other[key]).all()) for key in one)
