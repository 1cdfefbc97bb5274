"""What a search's finished trials are worth together: their greedy soup, what a trial adds to it, whom it can spare."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.pipeline.score.context import RunContext
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Soup
from soups.recipes.shared.resume import Replay
from soups.recipes.shared.sweep import best_first

logger = logging.getLogger(__name__)


@dataclass
class SoupGain:
    """Makes the greedy soup of some trials, in memory alone; what it has found out it does not find out again."""

    context: RunContext
    known: dict[frozenset[Path], tuple[float, frozenset[str]]] = field(default_factory=dict)
    """Checkpoints → score and ingredients of their greedy soup."""
    decided: list[dict[str, Any]] = field(default_factory=list)
    """The decisions of the soup made last: those on the same beginning are the same in the next."""

    def gain(self, path: Path, others: Iterable[Path]) -> float:
        """How much the greedy soup of the other checkpoints gains when this one joins them.

        The score of the greedy soup (Algorithm 1) of all less that of the others', on the validation images by the
        run's metric, a metric that is better low counted negative. 0 where there are no others: nothing gains then.
        """
        beside = frozenset(others) - {path}
        if not beside:
            return 0.0
        before = self._soup(beside)[0]
        return self._soup(beside | {path})[0] - before

    def ingredients(self, paths: Iterable[Path]) -> frozenset[str]:
        """The names of those that the greedy soup of these checkpoints is made of."""
        chosen = frozenset(paths)
        return self._soup(chosen)[1] if chosen else frozenset()

    def _soup(self, paths: frozenset[Path]) -> tuple[float, frozenset[str]]:
        if paths not in self.known:
            soup = self._made(paths)
            assert soup.score is not None
            self.known[paths] = soup.score, frozenset(part.name for part in soup.ingredients)
        return self.known[paths]

    def _made(self, paths: frozenset[Path]) -> Soup:
        run = self.context.run
        # The table is handed on, which would be read again otherwise.
        chosen = replace(run, only=frozenset(path.stem for path in paths), table=run.samples)
        context = replace(self.context, run=chosen)
        pool, card = pool_of(context)
        order = [ingredient.name for ingredient in best_first(pool.ingredients)]
        judge = Replay(LazyJudge(context, (pool, card)), _common(self.decided, order))
        soup = RECIPES["greedy"](pool, judge)
        self.decided = list(soup.decisions)
        return soup


def _common(decisions: Sequence[dict[str, Any]], order: Sequence[str]) -> list[dict[str, Any]]:
    """The decisions up to the first that is on another candidate than this order has there."""
    found = []
    for decision, name in zip(decisions, order, strict=False):
        if decision["candidate"] != name:
            break
        found.append(decision)
    return found


def remove_surplus_checkpoints(appraiser: SoupGain, ranked: Sequence[Path], keep: int) -> list[Path]:
    """Remove the checkpoints of trials that neither a soup nor the best need; those that were removed.

    Args:
        appraiser: knows the present greedy soup.
        ranked: checkpoints of the finished trials that are there, the best first.
        keep: how many stay; more only where more are in a soup.
    """
    if len(ranked) <= keep:
        return []
    needed = appraiser.ingredients(ranked) | _in_soups(appraiser.context.run.models)
    places = keep - sum(path.stem in needed for path in ranked)
    spare = [path for path in ranked if path.stem not in needed][max(places, 0) :]
    for path in spare:
        path.unlink(missing_ok=True)
        logger.info("%s: dropped; neither among the best %d nor in the greedy soup", path, keep)
    return spare


def _in_soups(models: Path) -> frozenset[str]:
    """The names of all ingredients of the soups in a folder."""
    cards = [read_card(path) for path in models.glob(f"*{SUFFIX}")]
    return frozenset(part.name for card in cards if card is not None and card.soup for part in card.soup.ingredients)
