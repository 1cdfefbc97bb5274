"""The learned soup: coefficients per model, or per model and block, by gradient descent on the validation log-loss."""

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
from soups.recipes.shared.pool import GradientJudge, Ingredient, OnDecision, Pool, Soup, Verdict, canonical_order
from soups.recipes.shared.resume import recorded_decision, verdict_from_decision
from soups.recipes.shared.sweep import DecisionLog, check_range

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

INITIALIZATIONS = ("between", "greedy", "uniform")
"""Initial coefficients; see `learned`."""


def learned(
    pool: Pool,
    judge: GradientJudge,
    *,
    on_decision: OnDecision | None = None,
    per: Literal["model", "block", "tensor"] = "block",
    begin: Literal["between", "greedy", "uniform"] = "between",
    steps: int = 32,
    rate: float = 0.035,
    seed: int = 0,
) -> Soup:
    """Learn mixing coefficients by gradient descent on the validation log-loss.

    The learned soup of Wortsman et al. 2022, arXiv:2203.05482, appendix "learned soup": argmin over α and β of the
    validation loss of f(x, Σ α_i θ_i), with one α for each model or for each model and layer.
     Deviations. (1) No temperature β is learned: it changes no prediction, and log-losses of soups would stop being
    comparable; the report fits one to every soup alike. (2) Coefficients of a block sum to one but may be negative,
    where the paper takes a softmax: α = begin + z - mean(z), z = 0 at first. (3) The initial coefficients are half-way
    between a greedy soup on log-loss (of the better half of the models by log-loss) and the uniform soup: the greedy
    soup leaves the gradient fewer steps in which it could overfit the validation images, and the uniform soup overfits
    them least. (4) Few steps of Adam (as in the paper) with batches of an eighth of the images, and a learning rate
    that falls to zero along a cosine. (5) The paper holds all models in memory. Here the derivative by a coefficient is
    the dot product of the loss's gradient at the mixed weights and the model's weights, so that beside the mapped files
    only the network, its gradient and the activations of the backward pass are in memory: three models at most.

    The result is judged: if its log-loss is not below that of the greedy soup, the uniform soup and the soup half-way
    between, the best of these is returned.

    Args:
        pool: the ingredients, in any order.
        judge: judges soups and computes gradients. The steps end when its budget is spent; a record of an interrupted
            run is resumed (`resume`).
        on_decision: called with each decision: the initial soups, mean log-losses of batches, the result.
        per: granularity of the coefficients: `model`, `block` (see `mixing.find_block`) or `tensor`.
        begin: `between` as above; `greedy`: the better of the greedy and the uniform soup by log-loss; `uniform`.
        steps: number of gradient steps.
        rate: Adam's initial learning rate, divided by √N for N models, so that a step has the same length in weight
            space for any N.
        seed: of the batches.

    Returns:
        The soup. `options` holds `per` and `coefficients` (block → one number per ingredient), from which
        `mixing.mix_states` makes the same bits; `coefficients` are the means over all weights of the network.

    Raises:
        UsageError: an option out of range, or unknown.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    _check_options(begin, steps, rate, seed)
    ingredients = canonical_order(pool.ingredients)
    states = mapped_states(ingredients)
    blocks, log = map_blocks(states[0], per), DecisionLog(on_decision)
    start = _InitialSoups(ingredients, states, judge, log).choose(begin)
    shares, verdict = dict.fromkeys(blocks.values(), start.best.shares), start.best.verdict
    outcome = "; nothing was left to learn"
    if len(ingredients) == 1 or is_spent(judge):
        steps = 0
    if steps:
        begun = dict.fromkeys(blocks.values(), start.shares)
        descent = CoefficientDescent(judge, states, blocks, begun, rate / math.sqrt(len(states)))
        moved = descent.run(steps, seed << 32, log, verdict.score)
        result, better = _judge_learned(judge, lambda: dict(Mixture(states, blocks, moved)), start.best, log)
        change = f"log-loss {result.log_loss:.4f} against {verdict.log_loss:.4f} of {start.best.name}"
        outcome = f"; {change}" if better else f"; that did not lower the log-loss, so it is {start.best.name}"
        shares, verdict = (moved, result) if better else (shares, verdict)
    plain_shares = {block: [float(share) for share in values] for block, values in shares.items()}
    options = {"per": per, "begin": begin, "steps": steps, "rate": rate, "seed": seed, "coefficients": plain_shares}
    how = f"coefficients for each {per} learned in {steps} steps from {start.name}"
    return Soup(
        recipe="learned",
        state=mix_states(ingredients, options),
        ingredients=ingredients,
        coefficients=mean_shares(states[0], blocks, plain_shares),
        score=verdict.score,
        decisions=tuple(log.decisions),
        options=options,
        summary=f"{len(ingredients)} models, {how}{outcome}",
    )


def _judge_learned(
    judge: GradientJudge, soup: "Callable[[], State]", best: "_JudgedSoup", log: DecisionLog
) -> tuple[Verdict, bool]:
    """Return the verdict on the learned soup, and whether it is better than the best initial soup."""
    line = recorded_decision(judge, "learned")
    if line is not None:
        log.add_recorded(line)
        return verdict_from_decision(line), line["accepted"]
    result = judge(soup(), LossAtMost(best.verdict.log_loss))
    better = result.complete and result.log_loss < best.verdict.log_loss
    change = f"log-loss {result.log_loss:.4f} against {best.verdict.log_loss:.4f} of {best.name}"
    log.add("learned", better, result, best.verdict.score, change, best.verdict)
    return result, better


def _check_options(begin: str, steps: int, rate: float, seed: int) -> None:
    if begin not in INITIALIZATIONS:
        raise unknown_name("initialization", begin, INITIALIZATIONS)
    check_range("learned: rate", rate, 0, math.inf, low_open=True, high_open=True)
    for name, value in (("steps", steps), ("seed", seed)):
        if value < 0 or int(value) != value:
            raise UsageError(f"learned: {name}", expected="a whole number from 0 on", found=str(value))


@dataclass(frozen=True)
class _JudgedSoup:
    """A judged soup with the same coefficients for all blocks."""

    name: str
    shares: np.ndarray
    """(M,), in canonical order."""
    verdict: Verdict


@dataclass(frozen=True)
class _Initialization:
    """Initial coefficients, and the best initial soup, which the learned one has to beat."""

    name: str
    shares: np.ndarray
    best: _JudgedSoup


@dataclass(frozen=True)
class _InitialSoups:
    """Judges soups that have the same coefficients for all blocks."""

    ingredients: Sequence[Ingredient]
    """In canonical order."""
    states: "Sequence[State]"
    judge: GradientJudge
    log: DecisionLog

    def choose(self, begin: str) -> _Initialization:
        """Return the initial coefficients; see `begin` of `learned`."""
        number = len(self.ingredients)
        uniform = self._equal_shares(range(number))
        if begin == "uniform" or number == 1:
            verdict = self.judge(self._mix(uniform))
            self.log.add("all", True, verdict, verdict.score, "the mean of all")
            best = _JudgedSoup("the uniform soup" if number > 1 else "the only model", uniform, verdict)
            return _Initialization(best.name, uniform, best)
        members, verdict = self._select_greedily()
        best = _JudgedSoup(f"the mean of {len(members)}", self._equal_shares(members), verdict)
        if is_spent(self.judge):
            return _Initialization(best.name, best.shares, best)
        between = f"half-way between {best.name} and the uniform soup", (best.shares + uniform) / 2
        best = self._lower_loss(best, "all", "the uniform soup", uniform)
        if begin == "greedy":
            return _Initialization(best.name, best.shares, best)
        return _Initialization(*between, self._lower_loss(best, "half-way", *between))

    def _lower_loss(self, best: _JudgedSoup, candidate: str, name: str, shares: np.ndarray) -> _JudgedSoup:
        """Return the soup with the lower log-loss; the first if they are equal."""
        line = recorded_decision(self.judge, candidate)
        if line is not None:
            self.log.add_recorded(line)
            return _JudgedSoup(name, shares, verdict_from_decision(line)) if line["accepted"] else best
        verdict = self.judge(self._mix(shares), LossAtMost(best.verdict.log_loss))
        lower = verdict.complete and verdict.log_loss < best.verdict.log_loss
        why = f"log-loss {'lower' if lower else 'not lower'} than of {best.name}"
        self.log.add(candidate, lower, verdict, best.verdict.score, why, best.verdict)
        return _JudgedSoup(name, shares, verdict) if lower else best

    def _select_greedily(self) -> tuple[tuple[int, ...], Verdict]:
        """Add models of the better half by rising log-loss, each only if the log-loss of the mean does not rise."""
        members: tuple[int, ...] = ()
        incumbent: Verdict | None = None
        for index in self._order_by_loss()[: max(2, len(self.states) // 2)]:
            candidate = (*members, index)
            line = recorded_decision(self.judge, self.ingredients[index].name)
            if line is not None:
                self.log.add_recorded(line)
                members, incumbent = (
                    (candidate, verdict_from_decision(line)) if line["accepted"] else (members, incumbent)
                )
            elif incumbent is None:
                members, incumbent = candidate, self._judge_first(index)
            elif is_spent(self.judge):
                break
            else:
                verdict = self._try_last_member(candidate, incumbent)
                members, incumbent = (candidate, verdict) if verdict is not None else (members, incumbent)
        assert incumbent is not None
        return members, incumbent

    def _judge_first(self, index: int) -> Verdict:
        """Return the verdict of the single model that the greedy soup starts from."""
        ingredient = self.ingredients[index]
        known = ingredient.known_verdict
        verdict = self.judge(self._mix(self._equal_shares((index,)))) if known is None else known()
        self.log.add(ingredient.name, True, verdict, verdict.score, "the lowest log-loss of one model")
        return verdict

    def _try_last_member(self, members: tuple[int, ...], incumbent: Verdict) -> Verdict | None:
        """Return the verdict of the soup if its last member is accepted, else None."""
        accept = LossAtMost(incumbent.log_loss)
        verdict = self.judge(self._mix(self._equal_shares(members)), accept)
        accepted = verdict.complete and accept.allows(verdict)
        why = "the log-loss does not rise with it" if accepted else "the log-loss rises with it"
        name = self.ingredients[members[-1]].name
        self.log.add(name, accepted, verdict, incumbent.score, why, incumbent)
        return verdict if accepted else None

    def _order_by_loss(self) -> list[int]:
        def sort_key(index: int) -> tuple[bool, float, str]:
            loss = self.ingredients[index].log_loss
            return math.isnan(loss), 0.0 if math.isnan(loss) else loss, self.ingredients[index].name

        return sorted(range(len(self.ingredients)), key=sort_key)

    def _equal_shares(self, members: Sequence[int]) -> np.ndarray:
        shares = np.zeros(len(self.ingredients))
        shares[list(members)] = 1 / len(members)
        return shares

    def _mix(self, shares: np.ndarray) -> "dict[str, torch.Tensor]":
        blocks, members = map_blocks(self.states[0], "model"), np.flatnonzero(shares).tolist()
        return dict(Mixture([self.states[member] for member in members], blocks, {"all": shares[members]}))


def remake_learned(
    ingredients: Sequence[Ingredient], coefficients: Sequence[float], options: Mapping[str, Any]
) -> "State":
    """Return the weights of a learned soup from the coefficients that its card records."""
    return mix_states(ingredients, options)
