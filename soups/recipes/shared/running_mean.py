"""The running sum of a soup that grows or shrinks; reads each ingredient once, and the next one in advance."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from soups.recipes.shared.pool import Ingredient, State
from soups.weights.state_dict import WeightedSum

if TYPE_CHECKING:
    import torch

_PAGE = 4096
"""Bytes; touching one of each page brings a mapped file into memory."""


class RunningSum:
    """The float64 sum of ingredients that are added or removed one by one, and the means with one more ingredient.

    An added ingredient is read when the next mean is computed, unless it is still loaded from the last candidate. While
    a candidate is judged, a thread reads one ingredient in advance, if it is a mapped file; others would take
    additional memory. So the memory holds the sum, one ingredient and its candidate, and the operating system's cache
    of mapped files.

    This is a context manager: leaving it ends the thread and frees the sum.
    """

    def __init__(self) -> None:
        self._sum = WeightedSum()
        self._pending: list[tuple[Ingredient, float]] = []
        self._loaded: tuple[Ingredient, State] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: tuple[Ingredient, Future[State]] | None = None

    def __enter__(self) -> "RunningSum":
        return self

    def __exit__(self, *_: object) -> None:
        self._sum = WeightedSum()  # Frees the memory before another sum is made.
        self._loaded = self._ahead = None
        self._reader.shutdown(wait=True, cancel_futures=True)

    def add(self, ingredient: Ingredient, weight: float = 1.0) -> None:
        """Add an ingredient to the sum, or remove it with a weight of -1; it may be read later.

        Raises:
            DataError: the ingredient does not fit the earlier ones, or holds NaN; a later mean may raise this instead.
        """
        if self._pending or self._loaded is None or self._loaded[0] is not ingredient:
            self._pending.append((ingredient, weight))
            return
        self._sum.add(self._loaded[1], weight, ingredient.name)
        self._loaded = None

    def mean(self) -> "dict[str, torch.Tensor]":
        """Return the mean of the ingredients added.

        Raises:
            DataError: an ingredient does not fit the earlier ones, or holds NaN.
        """
        self._add_pending()
        return self._sum.mean()

    def mean_with(
        self, ingredient: Ingredient, weight: float = 1.0, following: Ingredient | None = None
    ) -> "dict[str, torch.Tensor]":
        """Return the mean with one more ingredient, and start reading `following` in advance.

        Raises:
            DataError: an ingredient does not fit the earlier ones, or holds NaN.
        """
        self._add_pending()
        state = self._read(ingredient)
        self._loaded = ingredient, state
        if following is not None and following.mapped and (self._ahead is None or self._ahead[0] is not following):
            self._ahead = following, self._reader.submit(_read_whole, following)
        return self._sum.mean_with(state, weight, ingredient.name)

    def _add_pending(self) -> None:
        self._loaded = None  # Frees the memory before the next ingredient is loaded.
        for ingredient, weight in self._pending:
            self._sum.add(self._read(ingredient), weight, ingredient.name)
        self._pending = []

    def _read(self, ingredient: Ingredient) -> State:
        if self._ahead is None or self._ahead[0] is not ingredient:
            return ingredient.load()
        future, self._ahead = self._ahead[1], None
        return future.result()


def _read_whole(ingredient: Ingredient) -> State:
    """Map an ingredient's file and read one byte of every page, which loads the file."""
    import torch

    state = ingredient.load()
    for tensor in state.values():
        if tensor.is_contiguous():
            # NumPy, because torch would create a thread pool for this thread.
            tensor.reshape(-1).view(torch.uint8).numpy()[::_PAGE].max(initial=0)
    return state


def equal_tensors(one: State, other: State) -> bool:
    """Return whether all floating-point tensors are equal to the bit; counters do not change predictions."""
    return all(not one[key].is_floating_point() or bool((one[key] == other[key]).all()) for key in one)
