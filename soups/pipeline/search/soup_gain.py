"""The greedy soup of a search's finished trials: what a trial adds to it, and which checkpoints are surplus."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.pipeline.score.context import RunContext
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.resume import ReplayJudge
from soups.recipes.shared.sweep import best_first

logger = logging.getLogger(__name__)


@dataclass
class SoupGain:
    """Computes greedy soups of trials in memory, with a cache of results."""

    context: RunContext
    results: dict[frozenset[Path], tuple[float, frozenset[str]]] = field(default_factory=dict)
    """Checkpoints → score and ingredients of their greedy soup."""
    last_decisions: list[dict[str, Any]] = field(default_factory=list)
    """Decisions of the last soup; a shared beginning is replayed instead of scored again."""

    def gain(self, path: Path, others: Iterable[Path]) -> float:
        """Return how much the greedy soup of the other checkpoints improves when this one is added.

        This is the score of the greedy soup (Algorithm 1) of all checkpoints minus that of the others, on the
        validation images by the run's metric, negated if lower is better. It is 0 if there are no others.
        """
        other_paths = frozenset(others) - {path}
        if not other_paths:
            return 0.0
        before = self._score_and_ingredients(other_paths)[0]
        return self._score_and_ingredients(other_paths | {path})[0] - before

    def ingredients(self, paths: Iterable[Path]) -> frozenset[str]:
        """Return the names of the greedy soup's ingredients among these checkpoints."""
        chosen = frozenset(paths)
        return self._score_and_ingredients(chosen)[1] if chosen else frozenset()

    def _score_and_ingredients(self, paths: frozenset[Path]) -> tuple[float, frozenset[str]]:
        if paths in self.results:
            return self.results[paths]
        run = self.context.run
        # Pass the loaded table on, which would otherwise be read again.
        chosen = replace(run, only=frozenset(path.stem for path in paths), table=run.samples)
        context = replace(self.context, run=chosen)
        pool, card = pool_of(context)
        order = [ingredient.name for ingredient in best_first(pool.ingredients)]
        pairs = zip(self.last_decisions, order, strict=False)
        equal_beginning = [decision for decision, _ in takewhile(lambda pair: pair[0]["candidate"] == pair[1], pairs)]
        judge = ReplayJudge(LazyJudge(context, (pool, card)), equal_beginning)
        soup = RECIPES["greedy"](pool, judge, accept="equal")
        assert soup.score is not None
        self.last_decisions = list(soup.decisions)
        self.results[paths] = soup.score, frozenset(part.name for part in soup.ingredients)
        return self.results[paths]


def remove_surplus_checkpoints(soup_gain: SoupGain, ranked: Sequence[Path], keep: int) -> list[Path]:
    """Remove checkpoints that are in no soup and not among the best; returns the removed ones.

    Args:
        soup_gain: computes the present greedy soup.
        ranked: existing checkpoints of the finished trials, best first.
        keep: number of checkpoints to keep; ingredients of soups are kept even beyond it.
    """
    if len(ranked) <= keep:
        return []
    cards = [read_card(path) for path in soup_gain.context.run.models.glob(f"*{SUFFIX}")]
    in_soups = {part.name for card in cards if card is not None and card.soup for part in card.soup.ingredients}
    needed = soup_gain.ingredients(ranked) | in_soups
    places = keep - sum(path.stem in needed for path in ranked)
    spare = [path for path in ranked if path.stem not in needed][max(places, 0) :]
    for path in spare:
        path.unlink(missing_ok=True)
        logger.info("%s: removed; neither among the best %d nor in a soup", path, keep)
    return spare
