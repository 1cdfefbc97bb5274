"""The learned soup: coefficients for each model, or each model and block, by gradient on the validation log-loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from soups.core.errors import UsageError, unknown_name
from soups.recipes.shared.acceptance import LossAtMost
from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.coefficient_descent import CoefficientDescent
from soups.recipes.shared.mixing import Mixture, map_blocks, mapped_states, mean_shares, mix_states
from soups.recipes.shared.pool import Ingredient, OnDecision, Pool, Soup, Teacher, Verdict, canonical_order
from soups.recipes.shared.resume import recall_decision, verdict_of
from soups.recipes.shared.sweep import DecisionLog, check_range

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

BEGINNINGS = ("between", "greedy", "uniform")
"""Where the coefficients begin; see `learned`."""


def learned(
    pool: Pool,
    judge: Teacher,
    *,
    on_decision: OnDecision | None = None,
    per: Literal["model", "block", "tensor"] = "block",
    begin: Literal["between", "greedy", "uniform"] = "between",
    steps: int = 32,
    rate: float = 0.035,
    seed: int = 0,
) -> Soup:
    """Mixing coefficients by gradient descent on the validation log-loss.

    The learned soup of Wortsman et al. 2022, arXiv:2203.05482, appendix "learned soup": argmin over α and β of the
    validation loss of f(x, Σ α_i θ_i), with one α for each model or for each model and layer.

    Deviations. (1) No temperature β is learned: it changes no prediction, and log-losses of soups would stop being
    comparable; the report fits one to every soup alike. (2) Coefficients of a block sum to one but may be negative,
    where the paper takes a softmax: α = begin + z - mean(z), z = 0 at first. (3) They begin half-way between a greedy
    soup on log-loss (of the better half of the models, in the order of their own) and the uniform soup: the one leaves
    the gradient less to do in which the validation images could mislead it, the other is what they mislead least.
    (4) Few steps of Adam (as the paper) with batches of an eighth of the images, the rate falling to zero along a
    cosine. (5) The paper holds all models in memory. Here the derivative by a coefficient is the dot product of the
    loss's gradient at the mixed weights and the model's: the network, its gradient and what the backward pass keeps,
    three models at the most, are all there is beside the models' mapped files.

    The result is judged: where its log-loss is not below that of the greedy soup, the uniform one and the one
    half-way, the best of these is the soup.

    Args:
        pool: the ingredients, in any order.
        judge: weighs soups and gives gradients. Its budget's end ends the steps; a record of a run that was killed is
            gone on from (`resume`).
        on_decision: called with each decision: the beginning's, the mean log-loss of batches now and then, the result.
        per: what has coefficients of its own: `model`, `block` (see `mixing.block_of`) or `tensor`.
        begin: `between` as above; `greedy`: the better of the two, by log-loss; `uniform`, without looking at others.
        steps: of the descent, each with one gradient.
        rate: Adam's at first, over √N for N models: then it is as long in weight space for few as for many.
        seed: which images share a batch.

    Returns:
        The soup. `options` holds `per` and `coefficients` (block → one number per ingredient), of which
        `mixing.mix_states` makes the same bits again; `coefficients` are the means over all numbers of the network.

    Raises:
        UsageError: an option out of range, or unknown.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    _check(begin, steps, rate, seed)
    ingredients = canonical_order(pool.ingredients)
    states = mapped_states(ingredients)
    blocks, trace = map_blocks(states[0], per), DecisionLog(on_decision)
    start = _Beginning(ingredients, states, judge, trace).found(begin)
    shares, verdict = dict.fromkeys(blocks.values(), start.best.shares), start.best.verdict
    outcome = "; nothing was left to learn"
    if len(ingredients) == 1 or is_spent(judge):
        steps = 0
    if steps:
        begun = dict.fromkeys(blocks.values(), start.shares)
        descent = CoefficientDescent(judge, states, blocks, begun, rate / math.sqrt(len(states)))
        moved = descent.run(steps, seed << 32, trace, verdict.score)
        found, better = _outcome(judge, lambda: dict(Mixture(states, blocks, moved)), start.best, trace)
        change = f"log-loss {found.log_loss:.4f} against {verdict.log_loss:.4f} of {start.best.name}"
        outcome = f"; {change}" if better else f"; that did not lower the log-loss, so it is {start.best.name}"
        shares, verdict = (moved, found) if better else (shares, verdict)
    told = {block: [float(share) for share in values] for block, values in shares.items()}
    options = {"per": per, "begin": begin, "steps": steps, "rate": rate, "seed": seed, "coefficients": told}
    how = f"coefficients for each {per} learned in {steps} steps from {start.name}"
    return Soup(
        recipe="learned",
        state=mix_states(ingredients, options),
        ingredients=ingredients,
        coefficients=mean_shares(states[0], blocks, told),
        score=verdict.score,
        decisions=tuple(trace.decisions),
        options=options,
        summary=f"{len(ingredients)} models, {how}{outcome}",
    )


def _outcome(judge: Teacher, soup: "Callable[[], State]", best: "_Judged", trace: DecisionLog) -> tuple[Verdict, bool]:
    """The verdict on what was learned, and whether it is better than the best without learning."""
    line = recall_decision(judge, "learned")
    if line is not None:
        trace.recall(line)
        return verdict_of(line), line["accepted"]
    found = judge(soup(), LossAtMost(best.verdict.log_loss))
    better = found.complete and found.log_loss < best.verdict.log_loss
    change = f"log-loss {found.log_loss:.4f} against {best.verdict.log_loss:.4f} of {best.name}"
    trace.add("learned", better, found, best.verdict.score, change, best.verdict)
    return found, better


def _check(begin: str, steps: int, rate: float, seed: int) -> None:
    if begin not in BEGINNINGS:
        raise unknown_name("beginning", begin, BEGINNINGS)
    check_range("learned: rate", rate, 0, math.inf, low_open=True, below=True)
    for name, value in (("steps", steps), ("seed", seed)):
        if value < 0 or int(value) != value:
            raise UsageError(f"learned: {name}", expected="a whole number from 0 on", found=str(value))


@dataclass(frozen=True)
class _Judged:
    """A soup with the same coefficients for all blocks."""

    name: str
    shares: np.ndarray
    """(M,), in canonical order."""
    verdict: Verdict


@dataclass(frozen=True)
class _Start:
    """Where the descent begins, and the soup that it has to beat."""

    name: str
    shares: np.ndarray
    best: _Judged


@dataclass(frozen=True)
class _Beginning:
    """Looks for soups with a low log-loss that have the same coefficients for all blocks."""

    ingredients: Sequence[Ingredient]
    """In canonical order."""
    states: "Sequence[State]"
    judge: Teacher
    trace: DecisionLog

    def found(self, begin: str) -> _Start:
        """What `learned` says of `begin`."""
        number = len(self.ingredients)
        uniform = self._shares(range(number))
        if begin == "uniform" or number == 1:
            verdict = self.judge(self._soup(uniform))
            self.trace.add("all", True, verdict, verdict.score, "the mean of all")
            best = _Judged("the uniform soup" if number > 1 else "the only model", uniform, verdict)
            return _Start(best.name, uniform, best)
        kept, verdict = self._grown()
        best = _Judged(f"the mean of {len(kept)}", self._shares(kept), verdict)
        if is_spent(self.judge):
            return _Start(best.name, best.shares, best)
        between = f"half-way between {best.name} and the uniform soup", (best.shares + uniform) / 2
        best = self._better(best, "all", "the uniform soup", uniform)
        if begin == "greedy":
            return _Start(best.name, best.shares, best)
        return _Start(*between, self._better(best, "half-way", *between))

    def _better(self, best: _Judged, candidate: str, name: str, shares: np.ndarray) -> _Judged:
        """The one with the lower log-loss; the first where they are equal."""
        line = recall_decision(self.judge, candidate)
        if line is not None:
            self.trace.recall(line)
            return _Judged(name, shares, verdict_of(line)) if line["accepted"] else best
        verdict = self.judge(self._soup(shares), LossAtMost(best.verdict.log_loss))
        lower = verdict.complete and verdict.log_loss < best.verdict.log_loss
        why = f"log-loss {'lower' if lower else 'not lower'} than of {best.name}"
        self.trace.add(candidate, lower, verdict, best.verdict.score, why, best.verdict)
        return _Judged(name, shares, verdict) if lower else best

    def _grown(self) -> tuple[tuple[int, ...], Verdict]:
        """The better half join in the order of their log-loss, each only if that of the mean does not rise."""
        kept: tuple[int, ...] = ()
        incumbent: Verdict | None = None
        for index in self._order()[: max(2, len(self.states) // 2)]:
            joined = (*kept, index)
            line = recall_decision(self.judge, self.ingredients[index].name)
            if line is not None:
                self.trace.recall(line)
                kept, incumbent = (joined, verdict_of(line)) if line["accepted"] else (kept, incumbent)
            elif incumbent is None:
                kept, incumbent = joined, self._first(index)
            elif is_spent(self.judge):
                break
            else:
                verdict = self._joined(joined, incumbent)
                kept, incumbent = (joined, verdict) if verdict is not None else (kept, incumbent)
        assert incumbent is not None
        return kept, incumbent

    def _first(self, index: int) -> Verdict:
        """That of the model that the soup begins with."""
        ingredient = self.ingredients[index]
        known = ingredient.known
        verdict = self.judge(self._soup(self._shares((index,)))) if known is None else known()
        self.trace.add(ingredient.name, True, verdict, verdict.score, "the lowest log-loss of one model")
        return verdict

    def _joined(self, members: tuple[int, ...], incumbent: Verdict) -> Verdict | None:
        """That of a soup with its last member, if the member joins."""
        accept = LossAtMost(incumbent.log_loss)
        verdict = self.judge(self._soup(self._shares(members)), accept)
        accepted = verdict.complete and accept.allows(verdict)
        why = "the log-loss does not rise with it" if accepted else "the log-loss rises with it"
        name = self.ingredients[members[-1]].name
        self.trace.add(name, accepted, verdict, incumbent.score, why, incumbent)
        return verdict if accepted else None

    def _order(self) -> list[int]:
        def merit(index: int) -> tuple[bool, float, str]:
            loss = self.ingredients[index].log_loss
            return math.isnan(loss), 0.0 if math.isnan(loss) else loss, self.ingredients[index].name

        return sorted(range(len(self.ingredients)), key=merit)

    def _shares(self, members: Sequence[int]) -> np.ndarray:
        shares = np.zeros(len(self.ingredients))
        shares[list(members)] = 1 / len(members)
        return shares

    def _soup(self, shares: np.ndarray) -> "dict[str, torch.Tensor]":
        blocks, members = map_blocks(self.states[0], "model"), np.flatnonzero(shares).tolist()
        return dict(Mixture([self.states[member] for member in members], blocks, {"all": shares[members]}))


def remake_learned(
    ingredients: Sequence[Ingredient], coefficients: Sequence[float], options: Mapping[str, Any]
) -> "State":
    """Return the weights of a learned soup from the coefficients that its card records."""
    from soups.recipes.shared.mixing import mix_states

    return mix_states(ingredients, options)
