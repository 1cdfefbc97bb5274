"""The learned soup: coefficients per model, or per model and block, by gradient descent on the validation log-loss."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from soups.core.errors import unknown_name
from soups.recipes.shared.acceptance import LossAtMost
from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.coefficient_descent import CoefficientDescent
from soups.recipes.shared.decisions import DecisionLog
from soups.recipes.shared.mixing import Mixture, map_blocks, mean_shares, mix_states
from soups.recipes.shared.pool import GradientJudge, Ingredient, OnDecision, Pool, Soup, State, Verdict, canonical_order
from soups.recipes.shared.sweep import check_range, check_whole, loss_then_name
from soups.recipes.shared.tensor_chunks import mapped_states

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
    if begin not in INITIALIZATIONS:
        raise unknown_name("initialization", begin, INITIALIZATIONS)
    check_range("learned: rate", rate, "(0, inf)")
    check_whole("learned: steps", steps)
    check_whole("learned: seed", seed)
    ingredients = canonical_order(pool.ingredients)
    states = mapped_states(ingredients)
    blocks, log = map_blocks(states[0], per), DecisionLog(judge, on_decision)
    comparison = _LossComparison(ingredients, states, judge, log)
    start_name, start_shares, best = comparison.initial_soups(begin)
    shares, verdict = dict.fromkeys(blocks.values(), best.shares), best.verdict
    outcome = "nothing was left to learn"
    if len(ingredients) == 1 or is_spent(judge):
        steps = 0
    if steps:
        begun = dict.fromkeys(blocks.values(), start_shares)
        descent = CoefficientDescent(judge, states, blocks, begun, rate / math.sqrt(len(states)))
        moved = descent.run(steps, seed << 32, log, verdict.score)

        def explain(result: Verdict, accepted: bool) -> str:
            return f"log-loss {result.log_loss:.4f} against {best.verdict.log_loss:.4f} of {best.name}"

        accepted, result = log.replay("learned") or comparison.judge_and_log(
            "learned", Mixture(states, blocks, moved), best.verdict, explain
        )
        outcome = f"that did not lower the log-loss, so it is {best.name}"
        if accepted:
            shares, verdict, outcome = moved, result, explain(result, accepted)
    plain_shares = {block: [float(share) for share in values] for block, values in shares.items()}
    options = {"per": per, "begin": begin, "steps": steps, "rate": rate, "seed": seed, "coefficients": plain_shares}
    coefficients = mean_shares(states[0], blocks, plain_shares)
    how = f"coefficients for each {per} learned in {steps} steps from {start_name}"
    return Soup(
        recipe="learned",
        state=mix_states(ingredients, coefficients, options),
        ingredients=ingredients,
        coefficients=coefficients,
        score=verdict.score,
        decisions=tuple(log.decisions),
        options=options,
        summary=f"{len(ingredients)} models, {how}; {outcome}",
    )


@dataclass(frozen=True)
class _JudgedSoup:
    """A judged soup with the same coefficients for all blocks."""

    name: str
    shares: np.ndarray
    """(M,), in canonical order."""
    verdict: Verdict


@dataclass(frozen=True)
class _LossComparison:
    """Compares soups of these ingredients by log-loss."""

    ingredients: Sequence[Ingredient]
    """In canonical order."""
    states: Sequence[State]
    judge: GradientJudge
    log: DecisionLog

    def initial_soups(self, begin: str) -> tuple[str, np.ndarray, _JudgedSoup]:
        """Return name and coefficients of the initial soup, and the best soup judged, which the learned has to beat.

        The coefficients are the same for all blocks; see `begin` of `learned`.
        """
        number = len(self.ingredients)
        uniform = self._equal_shares(range(number))
        if begin == "uniform" or number == 1:
            verdict = self.log.accept("all", lambda: self.judge(dict(self._mixture(uniform))), "the mean of all")
            best = _JudgedSoup("the uniform soup" if number > 1 else "the only model", uniform, verdict)
            return best.name, uniform, best
        best = self._select_greedily()
        if is_spent(self.judge):
            return best.name, best.shares, best
        between = f"half-way between {best.name} and the uniform soup", (best.shares + uniform) / 2
        best = self._lower_loss(best, "all", "the uniform soup", uniform)
        if begin == "greedy":
            return best.name, best.shares, best
        return *between, self._lower_loss(best, "half-way", *between)

    def _select_greedily(self) -> _JudgedSoup:
        """Add models of the better half by rising log-loss, each only if the log-loss of the mean does not rise."""
        order = sorted(range(len(self.states)), key=lambda index: loss_then_name(self.ingredients[index]))
        first = self.ingredients[order[0]]
        members, shares = order[:1], self._equal_shares(order[:1])
        get_verdict = first.known_verdict or (lambda: self.judge(dict(self._mixture(shares))))
        incumbent = self.log.accept(first.name, get_verdict, "the lowest log-loss of one model")
        for index in order[1 : max(2, len(order) // 2)]:
            name = self.ingredients[index].name
            recorded = self.log.replay(name)
            if recorded is None and is_spent(self.judge):
                break
            accepted, verdict = recorded or self.judge_and_log(
                name,
                self._mixture(self._equal_shares([*members, index])),
                incumbent,
                lambda _, accepted: f"the log-loss {'does not rise' if accepted else 'rises'} with it",
                ties=True,
            )
            if accepted:
                members, incumbent = [*members, index], verdict
        return _JudgedSoup(f"the mean of {len(members)}", self._equal_shares(members), incumbent)

    def _lower_loss(self, best: _JudgedSoup, candidate: str, name: str, shares: np.ndarray) -> _JudgedSoup:
        """Return the soup with the lower log-loss; the first if they are equal."""
        accepted, verdict = self.log.replay(candidate) or self.judge_and_log(
            candidate,
            self._mixture(shares),
            best.verdict,
            lambda _, accepted: f"log-loss {'lower' if accepted else 'not lower'} than of {best.name}",
        )
        return _JudgedSoup(name, shares, verdict) if accepted else best

    def judge_and_log(
        self,
        candidate: str,
        soup: Mixture,
        incumbent: Verdict,
        explain: Callable[[Verdict, bool], str],
        *,
        ties: bool = False,
    ) -> tuple[bool, Verdict]:
        """Judge a soup, accept it if its log-loss is lower (or equal, with `ties`), and log the decision."""
        verdict = self.judge(dict(soup), LossAtMost(incumbent.log_loss))
        lower = verdict.log_loss <= incumbent.log_loss if ties else verdict.log_loss < incumbent.log_loss
        accepted = verdict.complete and lower
        self.log.add(candidate, accepted, verdict, incumbent, explain(verdict, accepted))
        return accepted, verdict

    def _equal_shares(self, members: Sequence[int]) -> np.ndarray:
        shares = np.zeros(len(self.ingredients))
        shares[list(members)] = 1 / len(members)
        return shares

    def _mixture(self, shares: np.ndarray) -> Mixture:
        """Return the soup of the same coefficients for all blocks; it reads only models whose coefficient is not 0."""
        blocks, members = map_blocks(self.states[0], "model"), np.flatnonzero(shares).tolist()
        return Mixture([self.states[member] for member in members], blocks, {"all": shares[members]})
