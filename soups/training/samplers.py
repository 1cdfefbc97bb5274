"""How a search draws its next trial and gives up on one: Optuna's samplers and pruners, seeded trial by trial.

Every trial has a sampler of its own, seeded by the search's seed and the trial's number: what is proposed depends on
these and on the trials finished before, not on when the search was interrupted.
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
    """The space as Optuna has it: name → distribution, and `<name>_used` where half of the trials do without."""
    from optuna.distributions import CategoricalDistribution

    found: dict[str, BaseDistribution] = {}
    for name, entry in space.items():
        found[name] = _distribution(entry)
        if entry.otherwise is not None:
            found[used_name(name)] = CategoricalDistribution((True, False))
    return found


def _distribution(entry: Hyperparameter) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if entry.choices is not None:
        return CategoricalDistribution(entry.labels())
    assert entry.low is not None and entry.high is not None
    if isinstance(entry.low, int):
        return IntDistribution(entry.low, int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)


def _tpe(seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import TPESampler

    return TPESampler(seed=derived_seed(seed, number) % 2**_SEED_BITS)


def _random(seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=derived_seed(seed, number) % 2**_SEED_BITS)


def _quasi_random(seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import QMCSampler

    class Numbered(QMCSampler):
        """Takes the point of the trial's number; Optuna counts in the storage, where two processes may count alike."""

        def _find_sample_id(self, study: "Study", search_space: "dict[str, BaseDistribution]") -> int:
            return number

    return Numbered(scramble=True, seed=seed)


SAMPLERS: "dict[str, Callable[[int, int], BaseSampler]]" = {"tpe": _tpe, "random": _random, "qmc": _quasi_random}
"""`--search-sampler` → (seed of the search, number of the trial) → what draws that trial: the tree-structured Parzen
estimator (Bergstra et al. 2011; its first ten trials are random), uniform, or a scrambled Sobol sequence."""


def draw_trial(sampler: str, seed: int, study: "Study", number: int, space: Space) -> dict[str, Any]:
    """Name → value for one trial, without storing anything.

    Args:
        sampler: a key of `SAMPLERS`.
        seed: of the search.
        study: with the trials before, freshly loaded.
        number: of the trial that is drawn for.
        space: what to draw from.
    """
    wanted = distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls the quasi-random sampler experimental each time.
        source, (draft, trial) = SAMPLERS[sampler](seed, number), _draft(study)
        together = wanted if sampler == "qmc" else source.infer_relative_search_space(draft, trial)
        drawn = source.sample_relative(draft, trial, together)
        for name, distribution in wanted.items():
            if name not in drawn:
                drawn[name] = source.sample_independent(draft, trial, name, distribution)
    return {name: _readable(drawn[name], space.get(name)) for name in wanted}


def _draft(study: "Study") -> "tuple[Study, FrozenTrial]":
    """A copy of a study in memory, with the trial that is drawn for, for the notes that samplers store with a trial.

    In the study itself there is no such trial yet: it comes with all of its parameters at once.
    """
    import optuna

    draft = optuna.create_study(direction=study.direction, sampler=optuna.samplers.RandomSampler())
    draft.add_trials(study.get_trials(deepcopy=False))
    draft.ask()
    return draft, draft.trials[-1]


def _readable(value: Any, entry: Hyperparameter | None) -> Any:
    """Six digits, as rows drawn at random have."""
    if not isinstance(value, float) or entry is None or entry.step is not None:
        return value
    assert entry.low is not None and entry.high is not None
    return min(max(float(f"{value:.6g}"), entry.low), entry.high)


def _none(most_epochs: int) -> "BasePruner":
    from optuna.pruners import NopPruner

    return NopPruner()


def _median(most_epochs: int) -> "BasePruner":
    from optuna.pruners import MedianPruner

    return MedianPruner()


def _hyperband(most_epochs: int) -> "BasePruner":
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=1, max_resource=most_epochs)


PRUNERS: "dict[str, Callable[[int], BasePruner]]" = {"none": _none, "median": _median, "hyperband": _hyperband}
"""`--pruning` → the most epochs that a trial can have → what decides after each epoch whether it is given up: never, if
it is worse than the median of the trials before at the same epoch (from the sixth trial on), or by Hyperband (Li et al.
2018)."""
