"""Optuna's samplers and pruners for a search, seeded per trial.

Every trial has its own sampler, seeded by the search's seed and the trial's number: proposals depend on these and on
the trials finished before, not on when the search was interrupted.
"""

import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from soups.runtime.devices import derived_seed
from soups.training.search_space import Hyperparameter, Space, used_name


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Returns the space as Optuna's distributions; `<name>_used` is added where half of the trials go without."""
    found: dict[str, BaseDistribution] = {}
    for name, entry in space.items():
        found[name] = _make_distribution(entry)
        if entry.otherwise is not None:
            found[used_name(name)] = CategoricalDistribution((True, False))
    return found


def _make_distribution(entry: Hyperparameter) -> BaseDistribution:
    if entry.choices is not None:
        return CategoricalDistribution(entry.labels())
    assert entry.low is not None and entry.high is not None
    if isinstance(entry.low, int):
        return IntDistribution(entry.low, int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)


class _TrialNumberSampler(QMCSampler):
    """Uses the trial's number as the point's; Optuna counts in the storage, where two processes may count alike."""

    def __init__(self, seed: int, number: int) -> None:
        super().__init__(scramble=True, seed=seed)
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, number: TPESampler(seed=derived_seed(seed, number) % 2**32),
    "random": lambda seed, number: RandomSampler(seed=derived_seed(seed, number) % 2**32),
    "qmc": _TrialNumberSampler,
}
"""`--search-sampler` → (seed of the search, number of the trial) → sampler of that trial: the tree-structured Parzen
estimator (Bergstra et al. 2011; its first ten trials are random), uniform, or a scrambled Sobol sequence."""


def draw_trial(sampler: str, seed: int, study: optuna.Study, number: int, space: Space) -> dict[str, Any]:
    """Returns name → value for one trial, without storing anything.

    Args:
        sampler: a key of `SAMPLERS`.
        seed: seed of the search.
        study: the study with the trials before, freshly loaded.
        number: number of the new trial.
        space: the search space.
    """
    space_distributions = distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns at each use that the quasi-random sampler is experimental.
        chosen, (draft, trial) = SAMPLERS[sampler](seed, number), _copy_with_new_trial(study)
        relative = space_distributions if sampler == "qmc" else chosen.infer_relative_search_space(draft, trial)
        drawn = chosen.sample_relative(draft, trial, relative)
        for name, distribution in space_distributions.items():
            if name not in drawn:
                drawn[name] = chosen.sample_independent(draft, trial, name, distribution)
    return {name: _round_value(drawn[name], space.get(name)) for name in space_distributions}


def _copy_with_new_trial(study: optuna.Study) -> tuple[optuna.Study, optuna.trial.FrozenTrial]:
    """Returns an in-memory copy of a study with a new trial, which holds the attributes that samplers store.

    The study itself has no such trial yet: a trial is added to it with all of its parameters at once.
    """
    draft = optuna.create_study(direction=study.direction, sampler=RandomSampler())
    draft.add_trials(study.get_trials(deepcopy=False))
    draft.ask()
    return draft, draft.trials[-1]


def _round_value(value: Any, entry: Hyperparameter | None) -> Any:
    """Returns a float rounded to six digits, as in rows drawn at random."""
    if not isinstance(value, float) or entry is None or entry.step is not None:
        return value
    assert entry.low is not None and entry.high is not None
    return min(max(float(f"{value:.6g}"), entry.low), entry.high)


PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "none": lambda most_epochs: NopPruner(),
    "median": lambda most_epochs: MedianPruner(),
    "hyperband": lambda most_epochs: HyperbandPruner(min_resource=1, max_resource=most_epochs),
}
"""`--pruning` → most epochs of a trial → pruner that decides after each epoch whether to stop the trial: never, if it
is worse than the median of the trials before at the same epoch (from the sixth trial on), or by Hyperband (Li et al.
2018)."""
