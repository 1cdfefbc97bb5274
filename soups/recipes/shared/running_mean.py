"""The running float64 sum behind a soup that grows or shrinks; reads each ingredient once, and the next one ahead."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from soups.recipes.shared.pool import Ingredient
from soups.weights.state_dict import WeightedSum

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

_PAGE = 4096
"""Bytes; touching one byte of each page brings a mapped file into memory."""


class RunningSum:
    """The float64 sum of ingredients added or subtracted one by one, and means with one more candidate.

    An added ingredient is read when a mean is requested, unless it is the last candidate and still in memory. While a
    candidate is judged, a thread reads the next one ahead if it is a mapped file (others would take unplanned memory);
    never more than one. In memory are thus the sum, one ingredient and its candidate, and of mapped files what the page
    cache holds.

    A context manager: leaving it ends the thread and frees the sum.
    """

    def __init__(self) -> None:
        self._sum = WeightedSum()
        self._pending: list[tuple[Ingredient, float]] = []
        self._last_read: tuple[Ingredient, State] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._read_ahead: tuple[Ingredient, Future[State]] | None = None

    def __enter__(self) -> "RunningSum":
        return self

    def __exit__(self, *_: object) -> None:
        self._sum = WeightedSum()  # Frees the memory of the sum.
        self._last_read = self._read_ahead = None
        self._reader.shutdown(wait=True, cancel_futures=True)

    def add(self, ingredient: Ingredient, weight: float = 1.0) -> None:
        """Add an ingredient to the sum, or subtract it with a weight of -1; it may be read later.

        Raises:
            DataError: it does not fit the earlier ones, or holds NaN (or later, when a mean is requested).
        """
        if self._pending or self._last_read is None or self._last_read[0] is not ingredient:
            self._pending.append((ingredient, weight))
            return
        self._sum.add(self._last_read[1], weight, ingredient.name)
        self._last_read = None

    def mean(self) -> "dict[str, torch.Tensor]":
        """Return the mean of the added ingredients.

        Raises:
            DataError: an ingredient does not fit the earlier ones, or holds NaN.
        """
        self._add_pending()
        return self._sum.mean()

    def mean_with(
        self, ingredient: Ingredient, weight: float = 1.0, following: Ingredient | None = None
    ) -> "dict[str, torch.Tensor]":
        """Return the mean with one more ingredient; `following` is read ahead in the meantime.

        Raises:
            DataError: an ingredient does not fit the earlier ones, or holds NaN.
        """
        self._add_pending()
        state = self._read(ingredient)
        self._last_read = ingredient, state
        if (
            following is not None
            and following.mapped
            and (self._read_ahead is None or self._read_ahead[0] is not following)
        ):
            self._read_ahead = following, self._reader.submit(_load_and_touch, following)
        return self._sum.mean_with(state, weight, ingredient.name)

    def _add_pending(self) -> None:
        """Read and add the pending ingredients."""
        self._last_read = None  # Frees it before the next one is loaded.
        for ingredient, weight in self._pending:
            self._sum.add(self._read(ingredient), weight, ingredient.name)
        self._pending = []

    def _read(self, ingredient: Ingredient) -> "State":
        if self._read_ahead is None or self._read_ahead[0] is not ingredient:
            return ingredient.load()
        future, self._read_ahead = self._read_ahead[1], None
        return future.result()


def _load_and_touch(ingredient: Ingredient) -> "State":
    """Map an ingredient's file and touch every page."""
    import torch

    state = ingredient.load()
    for tensor in state.values():
        if tensor.is_contiguous():
            # NumPy, because torch would start a thread pool of its own in this thread.
            tensor.reshape(-1).view(torch.uint8).numpy()[::_PAGE].max(initial=0)
    return state


def equal_tensors(one: "State", other: "State") -> bool:
    """Return whether all floating-point tensors are equal to the bit; counters do not change predictions."""
    return all(not one[key].is_floating_point() or bool((one[key] == other[key]).all()) for key in one)
