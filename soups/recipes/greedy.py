"""The greedy soup: models join one by one, each only if the soup does not get worse."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast, ScoreThenLoss, Significant
from soups.recipes.shared.budget import finish_soup, is_spent
from soups.recipes.shared.decisions import DecisionLog
from soups.recipes.shared.pool import Accept, Ingredient, Judge, OnDecision, Pool, Soup, Verdict, equal_soup
from soups.recipes.shared.reasons import explain_decision
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import best_first, check_range


def greedy(
    pool: Pool,
    judge: Judge,
    *,
    on_decision: OnDecision | None = None,
    accept: Literal["ties-by-log-loss", "equal", "better", "significant"] = "ties-by-log-loss",
    level: float = 0.05,
) -> Soup:
    """Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482, "greedy soup".

    Candidates are tried by falling validation score (ties: lower log-loss, then name). The first is accepted, and its
    score (logged, or judged) is the one to reach; each further one joins for good if the mean of the soup so far and
    the candidate is accepted. The mean is over all ingredients with equal weights. Algorithm 1 is `accept="equal"`; by
    default, a candidate with an equal score must not raise the log-loss: on a small validation set many scores are
    equal, and Algorithm 1 accepts models that make the soup worse.

    A candidate is judged only until it is certain that it will not join; the selection is the same as with all images,
    and the same if the judge judges several candidates in parallel (`judge.judge_candidates`). The recipe respects a
    judge's budget and replays a record of an earlier run (`budget`, `resume`).

    In memory at a time: the float64 sum of the accepted ingredients, one ingredient and its candidate soup. While that
    is judged, the next ingredient's file is read ahead, if it is mapped. The final state is summed anew in canonical
    order, so its bits depend only on the selection.

    Args:
        pool: the ingredients, in any order.
        judge: judges each candidate soup; must compute the log-loss for `ties-by-log-loss`.
        on_decision: called with each decision at once.
        accept: condition for joining: `equal` to the soup so far or better (Algorithm 1), the same with
            `ties-by-log-loss`, `better` (the paper's own code), or `significant`: better by a paired gain of images
            with a p-value of at most `level`.
        level: significance level for `significant`, in (0, 1).

    Raises:
        UsageError: an unknown option value, or one that has no meaning with the others.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    options: dict[str, Any] = {"accept": accept}
    if accept == "significant":
        check_range("greedy: level", level, "(0, 1)")
        options["level"] = level
    rules: dict[str, Callable[[Verdict], Accept]] = {
        "ties-by-log-loss": lambda incumbent: ScoreThenLoss(incumbent.score, incumbent.log_loss),
        "equal": lambda incumbent: AtLeast(incumbent.score),
        "better": lambda incumbent: AtLeast(incumbent.score, strict=True),
        "significant": lambda incumbent: Significant(incumbent, level),
    }
    if accept not in rules:
        raise UsageError("greedy: accept", expected=f"one of {', '.join(rules)}", found=str(accept))
    rejections = {
        "ties-by-log-loss": "fell short of its score or, at the same score, raised its log-loss",
        "equal": "fell short of its score",
        "better": "did not improve on its score",
        "significant": "was not surely better than its score",
    }
    rule = AcceptanceRule(rules[accept], rejections[accept])
    return grow_soup("greedy", pool, judge, on_decision, rule, options)


@dataclass(frozen=True)
class AcceptanceRule:
    """When a candidate joins a growing soup."""

    accept: Callable[[Verdict], Accept]
    """Returns what a candidate has to reach, from the incumbent's verdict."""
    rejection: str
    """Predicate for rejected candidates in the summary: "fell short of its score"."""


def grow_soup(
    recipe: str, pool: Pool, judge: Judge, on_decision: OnDecision | None, rule: AcceptanceRule, options: dict[str, Any]
) -> Soup:
    """Return the soup grown from the best ingredient by adding, best first, what the rule accepts; see `greedy`.

    Args:
        recipe: its name.
        pool: the ingredients.
        judge: judges each candidate.
        on_decision: called with each decision.
        rule: acceptance rule.
        options: the recipe's settings, for the soup.
    """
    log = DecisionLog(judge, on_decision)
    with RunningSum() as total:
        members, untried, score = _select(best_first(pool.ingredients), judge, rule, log, total)
        judged = total.mean()
    soup = equal_soup(recipe, members, _summary(log.decisions, rule), options, judged)
    score = score if equal_tensors(soup.state, judged) else judge(soup.state).score
    return finish_soup(soup, score, log.decisions, [ingredient.name for ingredient in untried])


def _select(
    order: list[Ingredient], judge: Judge, rule: AcceptanceRule, log: DecisionLog, total: RunningSum
) -> tuple[list[Ingredient], list[Ingredient], float]:
    """Return the members of the soup as they joined, candidates left untried, and the soup's score.

    Decisions are logged; the members are added to `total`.
    """
    first, *candidates = order
    members = [first]
    total.add(first)
    get_verdict = first.known_verdict or (lambda: judge(total.mean()))
    incumbent = log.accept(first.name, get_verdict, "the best single model by validation, taken as it is")
    while candidates and (recorded := log.replay(candidates[0].name)) is not None:
        candidate = candidates.pop(0)
        if recorded[0]:
            members.append(candidate)
            total.add(candidate)
            incumbent = recorded[1]
    joined = True
    while joined and candidates:
        joined, accept = False, rule.accept(incumbent)
        # The verdicts are on means with these members, so they end when a candidate joins.
        with closing(_verdicts(judge, total, members, tuple(candidates), accept)) as verdicts:
            for verdict in verdicts:
                candidate = candidates.pop(0)
                joined = verdict.complete and accept.allows(verdict)
                log.add(
                    candidate.name, joined, verdict, incumbent, explain_decision(verdict, incumbent, accept, joined)
                )
                if joined:
                    members.append(candidate)
                    total.add(candidate)
                    incumbent = verdict
                    break
    return members, candidates, incumbent.score


def _verdicts(
    judge: Judge, total: RunningSum, members: Sequence[Ingredient], candidates: Sequence[Ingredient], accept: Accept
) -> Generator[Verdict]:
    """Yield the verdict on each candidate's mean with the members, until the budget is spent."""
    judge_candidates = getattr(judge, "judge_candidates", None)
    if judge_candidates is not None:
        with closing(judge_candidates(tuple(members), candidates, accept)) as verdicts:
            yield from verdicts
        return
    for candidate, following in zip_longest(candidates, candidates[1:]):
        if is_spent(judge):
            return
        yield judge(total.mean_with(candidate, following=following), accept)


def _summary(decisions: list[dict[str, Any]], rule: AcceptanceRule) -> str:
    """Return how many models were selected and, if only one was, why; early stopping does not change the text."""
    kept = sum(decision["accepted"] for decision in decisions)
    text = f"kept {kept} of {len(decisions)}"
    if kept > 1 or len(decisions) == 1:
        return text
    first, *others = (decision["candidate"] for decision in decisions)
    others_text = f"the one other, {others[0]}," if len(others) == 1 else f"each of the {len(others)} others"
    return f"{text}: averaged with {first}, {others_text} {rule.rejection}"
