"""Optuna's samplers and pruners for a search, seeded per trial.

Every trial has its own sampler, seeded by the search's seed and the trial's number: proposals depend on these and on
the trials finished before, not on when the search was interrupted.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from soups.runtime.devices import derived_seed
from soups.training.search_space import Hyperparameter, Space, used_name

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_SEED_BITS = 32


def distributions(space: Space) -> "dict[str, BaseDistribution]":
    """Returns the space as Optuna's distributions; `<name>_used` is added where half of the trials go without."""
    from optuna.distributions import CategoricalDistribution

    found: dict[str, BaseDistribution] = {}
    for name, entry in space.items():
        found[name] = _make_distribution(entry)
        if entry.otherwise is not None:
            found[used_name(name)] = CategoricalDistribution((True, False))
    return found


def _make_distribution(entry: Hyperparameter) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if entry.choices is not None:
        return CategoricalDistribution(entry.labels())
    assert entry.low is not None and entry.high is not None
    if isinstance(entry.low, int):
        return IntDistribution(entry.low, int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)


def _make_tpe_sampler(seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import TPESampler

    return TPESampler(seed=derived_seed(seed, number) % 2**_SEED_BITS)


def _make_random_sampler(seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=derived_seed(seed, number) % 2**_SEED_BITS)


def _make_sobol_sampler(seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import QMCSampler

    class TrialNumberSampler(QMCSampler):
        """Uses the trial's number as the point's; Optuna counts in the storage, where two processes may count alike."""

        def _find_sample_id(self, study: "Study", search_space: "dict[str, BaseDistribution]") -> int:
            return number

    return TrialNumberSampler(scramble=True, seed=seed)


SAMPLERS: "dict[str, Callable[[int, int], BaseSampler]]" = {
    "tpe": _make_tpe_sampler,
    "random": _make_random_sampler,
    "qmc": _make_sobol_sampler,
}
"""`--search-sampler` → (seed of the search, number of the trial) → sampler of that trial: the tree-structured Parzen
estimator (Bergstra et al. 2011; its first ten trials are random), uniform, or a scrambled Sobol sequence."""


def draw_trial(sampler: str, seed: int, study: "Study", number: int, space: Space) -> dict[str, Any]:
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
        optuna_sampler, (draft, trial) = SAMPLERS[sampler](seed, number), _copy_with_new_trial(study)
        relative_space = (
            space_distributions if sampler == "qmc" else optuna_sampler.infer_relative_search_space(draft, trial)
        )
        drawn = optuna_sampler.sample_relative(draft, trial, relative_space)
        for name, distribution in space_distributions.items():
            if name not in drawn:
                drawn[name] = optuna_sampler.sample_independent(draft, trial, name, distribution)
    return {name: _round_value(drawn[name], space.get(name)) for name in space_distributions}


def _copy_with_new_trial(study: "Study") -> "tuple[Study, FrozenTrial]":
    """Returns an in-memory copy of a study with a new trial, which holds the attributes that samplers store.

    The study itself has no such trial yet: a trial is added to it with all of its parameters at once.
    """
    import optuna

    draft = optuna.create_study(direction=study.direction, sampler=optuna.samplers.RandomSampler())
    draft.add_trials(study.get_trials(deepcopy=False))
    draft.ask()
    return draft, draft.trials[-1]


def _round_value(value: Any, entry: Hyperparameter | None) -> Any:
    """Returns a float rounded to six digits, as in rows drawn at random."""
    if not isinstance(value, float) or entry is None or entry.step is not None:
        return value
    assert entry.low is not None and entry.high is not None
    return min(max(float(f"{value:.6g}"), entry.low), entry.high)


def _make_no_pruner(most_epochs: int) -> "BasePruner":
    from optuna.pruners import NopPruner

    return NopPruner()


def _make_median_pruner(most_epochs: int) -> "BasePruner":
    from optuna.pruners import MedianPruner

    return MedianPruner()


def _make_hyperband_pruner(most_epochs: int) -> "BasePruner":
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=1, max_resource=most_epochs)


PRUNERS: "dict[str, Callable[[int], BasePruner]]" = {
    "none": _make_no_pruner,
    "median": _make_median_pruner,
    "hyperband": _make_hyperband_pruner,
}
"""`--pruning` → most epochs of a trial → pruner that decides after each epoch whether to stop the trial: never, if it
is worse than the median of the trials before at the same epoch (from the sixth trial on), or by Hyperband (Li et al.
2018)."""
