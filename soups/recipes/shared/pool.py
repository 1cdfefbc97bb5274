"""What recipes work on: a lazy pool of ingredients, the judge of a state, and the soup that comes out."""

import base64
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from soups.core.errors import DataError
from soups.weights.state_dict import average_states

if TYPE_CHECKING:
    import numpy as np
    import torch

    State = Mapping[str, torch.Tensor]

OnDecision = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ingredient:
    """A model that may go into a soup; its weights stay on disk until asked for."""

    name: str
    """What messages and logs call it; distinct within a pool."""
    sha256: str
    """Of its file, in hexadecimal: gives the canonical order of a soup's ingredients."""
    score: float
    """On the validation set by the chosen metric; higher is better (the caller negates a loss)."""
    log_loss: float
    """On the validation set, in nats: decides between equal scores, lower first."""
    load: "Callable[[], State]"
    """Reads the weights; called when they are needed, and again when they are needed again."""
    mapped: bool = False
    """Whether `load` gives a view of a file, so that many of them at once take no memory."""
    known: "Callable[[], Verdict] | None" = None
    """Its verdict, where the logs have it: then nobody needs to judge it again."""


@dataclass(frozen=True)
class Pool:
    """The ingredients to choose from, in any order, and the start that they share, if known (never an ingredient)."""

    ingredients: tuple[Ingredient, ...]
    start: Ingredient | None = None
    start_problem: str = ""
    """Where there is no common start because the ingredients have different ones: which, of two of them."""

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
    """A state's result on the validation set; of a judgement that was stopped, the best that was still possible."""

    score: float
    """By the chosen metric, higher is better."""
    errors: int
    """Wrong predictions among the images seen."""
    images: int
    """Images seen."""
    complete: bool = True
    """False when the judge stopped early because rejection was certain."""
    log_loss: float = math.nan
    """In nats, mean over all images; NaN where the judge does not say."""
    outcome: "np.ndarray | None" = field(default=None, compare=False, repr=False)
    """(N,) int8 by image, in the order of the validation set: 1 right, 0 wrong, -1 not seen."""


class Accept(Protocol):
    """What a candidate has to reach; see `acceptance`."""

    def allows(self, verdict: Verdict) -> bool:
        """Whether this is enough. Never False for a verdict on some of the images and True for the one on all."""
        ...


class Judge(Protocol):
    """Weighs a state on the validation set; equal states get equal verdicts."""

    def __call__(self, state: "State", accept: Accept | None = None) -> Verdict:
        """The verdict on these weights; with `accept`, the judge may stop as soon as rejection is certain."""
        ...


class Teacher(Judge, Protocol):
    """A judge that can also say in which direction weights get better."""

    def gradient(self, state: "State", seed: int) -> "tuple[float, State]":
        """Mean log-loss in nats on validation images drawn by `seed`, and its gradient: a tensor for each
        floating-point weight, valid until the next call."""
        ...

    def fisher(self, state: "State", seed: int) -> "State":
        """The diagonal of the empirical Fisher information at these weights: a tensor for each floating-point weight,
        valid until the next call."""
        ...


@dataclass(frozen=True)
class Soup:
    """An averaged model with all that is needed to make it again."""

    recipe: str
    """A key of `RECIPES`."""
    state: "State"
    """In the ingredients' dtypes; its bits do not depend on the order of the pool."""
    ingredients: tuple[Ingredient, ...]
    """In canonical order, by hash."""
    coefficients: tuple[float, ...]
    """One per ingredient, summing to one less the share of the start where a recipe mixes that in; recipes that choose
    number by number (ties, dare, model_stock) give the share that each ingredient came in with."""
    score: float | None = None
    """Of the state on the validation set, where it was judged."""
    decisions: tuple[dict[str, Any], ...] = ()
    """One per candidate, in the order in which they were judged; see `decision_record`."""
    options: dict[str, Any] = field(default_factory=dict)
    """The recipe's own settings."""
    summary: str = ""
    """One sentence on what was kept, and where a single model was kept, why."""


RecipeFunction = Callable[..., Soup]
"""`recipe(pool, judge, *, on_decision=None, **options) -> Soup`: pure, nothing that the caller holds is changed;
`on_decision` is called with each decision as soon as it has fallen."""


def canonical_order(ingredients: "tuple[Ingredient, ...] | list[Ingredient]") -> tuple[Ingredient, ...]:
    """By hash: an order that depends on the ingredients alone."""
    return tuple(sorted(ingredients, key=lambda ingredient: ingredient.sha256))


def mean_state(ingredients: Sequence[Ingredient], weights: Sequence[float] | None = None) -> "dict[str, torch.Tensor]":
    """Return the mean of ingredients, summed in float64 in the order given; see `average_states`.

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN; the message names the ingredient and the tensor.
    """
    states = ((ingredient.name, ingredient.load()) for ingredient in ingredients)
    return average_states(states, weights, mapped=all(ingredient.mapped for ingredient in ingredients))


DECISION_KEYS = (
    *("candidate", "accepted", "score", "incumbent", "errors", "images", "complete"),
    *("gained", "lost", "log_loss", "why", "outcome"),
)
"""What a decision says."""
MEMORY = "memory"
"""What else it may hold: whatever its recipe needs to go on from there."""


def decision_record(
    candidate: str,
    accepted: bool,
    verdict: Verdict,
    incumbent: float,
    why: str,
    gains: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One line of a recipe's log: plain JSON, so what is no finite number is None.

    Args:
        candidate: its name.
        accepted: whether it was taken.
        verdict: on the soup with the candidate.
        incumbent: score to reach.
        why: in words.
        gains: images seen that only the candidate gets right, and those that only the incumbent does; None: not known.

    Returns:
        `candidate`, `accepted`, `score` (of the soup with the candidate), `incumbent`, `errors` and `images` (wrong and
        seen), `complete` (False where the judge stopped before the last image; score and log-loss are then the best
        that was still possible), `gained` and `lost` (together: how many images decided), `log_loss`, `why`, `outcome`
        (of an accepted candidate, see `pack_outcome`: with it a later run goes on from here).
    """
    gained, lost = gains or (None, None)
    return {
        "candidate": candidate,
        "accepted": bool(accepted),
        "score": _finite(verdict.score),
        "incumbent": _finite(incumbent),
        "errors": verdict.errors,
        "images": verdict.images,
        "complete": verdict.complete,
        "gained": gained,
        "lost": lost,
        "log_loss": _finite(verdict.log_loss),
        "why": why,
        "outcome": pack_outcome(verdict.outcome)
        if accepted and verdict.complete and verdict.outcome is not None
        else None,
    }


def pack_outcome(outcome: "np.ndarray") -> str:
    """An outcome on all images as text: a bit an image, compressed, in base64."""
    import numpy as np

    return base64.b64encode(zlib.compress(np.packbits(outcome == 1).tobytes(), 9)).decode("ascii")


def unpack_outcome(text: str, images: int) -> "np.ndarray":
    """The (N,) int8 outcome on so many images that `pack_outcome` made this of."""
    import numpy as np

    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(bits, count=images).astype(np.int8)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
