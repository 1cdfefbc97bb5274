"""Types that recipes work on: lazily loaded ingredients, their pool, the judge, verdicts, soups."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from soups.core.errors import DataError
from soups.weights.state_dict import average_states

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]
OnDecision = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ingredient:
    """A model that may go into a soup; its weights are read from disk when they are needed."""

    name: str
    """Name in messages and logs; unique within a pool."""
    sha256: str
    """SHA-256 of the file, in hexadecimal; sorts ingredients into canonical order."""
    score: float
    """Validation score by the chosen metric; higher is better (the caller negates a loss)."""
    log_loss: float
    """Validation log-loss in nats; breaks ties of equal scores, lower first."""
    load: Callable[[], State]
    """Reads the weights; may be called several times."""
    mapped: bool = False
    """Whether `load` returns a view of a memory-mapped file, so that many loaded ingredients take no memory."""
    known_verdict: "Callable[[], Verdict] | None" = None
    """Returns the verdict from the logs, so that the model is not judged again. None: no verdict is logged."""


@dataclass(frozen=True)
class Pool:
    """The candidate ingredients, in any order, and their common start if it is known (never an ingredient)."""

    ingredients: tuple[Ingredient, ...]
    start: Ingredient | None = None
    start_problem: str = ""
    """Why there is no common start: names two ingredients with different starts."""

    def __post_init__(self) -> None:
        if not self.ingredients:
            raise DataError("a soup of no ingredients", expected="at least one model")
        for kind, what in (("name", "have the same name"), ("sha256", "are the same model twice")):
            seen: dict[str, str] = {}
            for ingredient in self.ingredients:
                value = getattr(ingredient, kind)
                if value in seen:
                    raise DataError(
                        f"{seen[value]} and {ingredient.name} {what}",
                        expected="each model once",
                        found=f"{kind} {value}",
                        next_step="leave one of them out",
                    )
                seen[value] = ingredient.name


@dataclass(frozen=True)
class Verdict:
    """Result of a state on the validation set; if judging stopped early, the best result that was still possible."""

    score: float
    """By the chosen metric; higher is better."""
    errors: int
    """Number of wrong predictions among the images judged."""
    images: int
    """Number of images judged."""
    complete: bool = True
    """False if the judge stopped early because rejection was certain."""
    log_loss: float = math.nan
    """In nats, mean over all images; NaN if the judge does not compute it."""
    outcome: np.ndarray | None = field(default=None, compare=False, repr=False)
    """(N,) int8 in the order of the validation set: 1 right, 0 wrong, -1 not judged."""


class Accept(Protocol):
    """Acceptance rule for a candidate; see `acceptance`."""

    def allows(self, verdict: Verdict) -> bool:
        """Return whether the verdict suffices; if False for a partial verdict, it is False for the complete one."""


class Judge(Protocol):
    """Judges a state on the validation set; equal states get equal verdicts."""

    def __call__(self, state: State, accept: Accept | None = None) -> Verdict:
        """Return the verdict on these weights; with `accept`, the judge may stop once rejection is certain."""


class WrappedJudge:
    """Base of judges that give the verdicts of another judge, `judge`; its other attributes are forwarded."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(self, state: State, accept: Accept | None = None) -> Verdict:
        """Return the judge's verdict."""
        return self.judge(state, accept)

    def __getattr__(self, name: str) -> Any:
        if name == "judge":  # Unpickling asks before `__init__` has run.
            raise AttributeError(name)
        return getattr(self.judge, name)


class GradientJudge(Judge, Protocol):
    """A judge that also computes gradients and Fisher information."""

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        """Return mean log-loss in nats on validation images drawn by `seed`, and its gradient.

        The gradient has a tensor for each floating-point weight and is valid until the next call.
        """

    def fisher(self, state: State, seed: int) -> State:
        """Return the diagonal of the empirical Fisher information at these weights.

        It has a tensor for each floating-point weight and is valid until the next call.
        """


@dataclass(frozen=True)
class Soup:
    """An averaged model with all that is needed to rebuild it."""

    recipe: str
    """Key of `RECIPES`."""
    state: State
    """State dict in the ingredients' dtypes; its bits do not depend on the order of the pool."""
    ingredients: tuple[Ingredient, ...]
    """In canonical order, by hash."""
    coefficients: tuple[float, ...]
    """One per ingredient. They sum to 1 minus the start's coefficient if the recipe mixes the start in.

    Recipes that choose per weight (ties, dare, model_stock) report the coefficient before that choice."""
    score: float | None = None
    """Validation score of the state; None: not judged."""
    decisions: tuple[dict[str, Any], ...] = ()
    """One record per candidate, in the order in which they were judged; see `DecisionLog.add`."""
    options: dict[str, Any] = field(default_factory=dict)
    """The recipe's own settings."""
    summary: str = ""
    """One sentence on which models were selected and, if only one was, why."""


RecipeFunction = Callable[..., Soup]
"""`recipe(pool, judge, *, on_decision=None, **options) -> Soup`: pure, does not change its arguments.

`on_decision` is called with each decision record at once."""


def canonical_order(ingredients: Iterable[Ingredient]) -> tuple[Ingredient, ...]:
    """Sort by hash, so that the order depends on the ingredients alone."""
    return tuple(sorted(ingredients, key=lambda ingredient: ingredient.sha256))


def mean_state(ingredients: Sequence[Ingredient], weights: Sequence[float] | None = None) -> "dict[str, torch.Tensor]":
    """Return the mean of ingredients, summed in float64 in the order given; see `average_states`.

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN; the message names the ingredient and the tensor.
    """
    states = ((ingredient.name, ingredient.load()) for ingredient in ingredients)
    return average_states(states, weights, mapped=all(ingredient.mapped for ingredient in ingredients))


def equal_soup(
    recipe: str,
    members: Sequence[Ingredient],
    summary: str,
    options: dict[str, Any] | None = None,
    state: State | None = None,
) -> Soup:
    """Return a soup of equal coefficients, not judged yet.

    Args:
        recipe: key of `RECIPES`.
        members: the ingredients, in any order.
        summary: see `Soup`.
        options: see `Soup`.
        state: weights that were made from the members in this order. If it is None or the order is not the canonical
            one, the plain mean is summed in canonical order, so that its bits depend on the members alone.
    """
    ingredients = canonical_order(members)
    if state is None or list(ingredients) != list(members):
        state = mean_state(ingredients)
    coefficients = (1 / len(ingredients),) * len(ingredients)
    return Soup(recipe, state, ingredients, coefficients, options=options or {}, summary=summary)
