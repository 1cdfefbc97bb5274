"""Samplers and pruners: draws depend on the seed and the trial number, and a stopped trial is below the others."""

import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from scipy.stats import qmc

from soups.training.samplers import PRUNERS, SAMPLERS, distributions, draw_trial
from soups.training.search_space import SPACES, Hyperparameter, Space
from soups.training.settings import RandomRanges

RANGES = RandomRanges()


def drawn_by(sampler: str, space: Space, number: int, seed: int = 0) -> dict[str, object]:
    return draw_trial(sampler, seed, optuna.create_study(), number, space)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_depend_on_seed_and_number_alone(sampler: str) -> None:
    space = SPACES["paper"](RANGES)
    first = [drawn_by(sampler, space, number) for number in range(3)]
    assert first == [drawn_by(sampler, space, number) for number in range(3)]
    assert len({str(each) for each in first}) == 3 and drawn_by(sampler, space, 0, seed=1) != first[0]
    for values in first:
        assert set(values) == set(distributions(space)) and {"mix_used", "smoothing_used"} < set(values)
        assert 1e-6 <= values["lr"] <= 1e-4 and float(f"{values['lr']:.6g}") == values["lr"]  # type: ignore[operator]


def test_tpe_learns_from_trials_and_stores_nothing() -> None:
    space = {"lr": Hyperparameter(low=1e-6, high=1e-2, log=True), "optimizer": Hyperparameter(choices=("adamw", "sgd"))}
    study = optuna.create_study(direction="maximize")
    for number in range(30):  # Good is what is near 1e-4.
        values = draw_trial("random", 0, study, number, space)
        value = -abs(math.log10(values["lr"]) + 4)
        study.add_trial(create_trial(params=values, distributions=distributions(space), value=value))
    study.add_trial(create_trial(state=TrialState.RUNNING, params=values, distributions=distributions(space)))
    before = [(trial.number, trial.params, trial.system_attrs) for trial in study.trials]
    drawn = [draw_trial("tpe", 0, study, number, space) for number in range(31, 41)]
    assert drawn == [draw_trial("tpe", 0, study, number, space) for number in range(31, 41)]
    assert before == [(trial.number, trial.params, trial.system_attrs) for trial in study.trials]
    misses = [abs(math.log10(values["lr"]) + 4) for values in drawn]
    assert sum(misses) / len(misses) < 0.5, "chance would be off by 1 on average"


def test_qmc_draws_the_point_of_the_trial_number() -> None:
    space = {name: SPACES["paper"](RANGES)[name] for name in ("mix", "smoothing")}
    space = {name: entry.model_copy(update={"otherwise": None}) for name, entry in space.items()}
    points = qmc.Sobol(2, scramble=True, seed=5).random(4)
    for number, point in enumerate(points):
        values = drawn_by("qmc", space, number, seed=5)
        assert [values["mix"], values["smoothing"]] == pytest.approx([0.9 * point[0], 0.25 * point[1]], rel=1e-5)


def test_pruners_stop_trials_below_the_median() -> None:
    study = optuna.create_study(direction="maximize")
    for value in (0.5, 0.6, 0.7, 0.8, 0.9):
        study.add_trial(create_trial(value=value, intermediate_values={1: value, 2: value}))
    poor = create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.1})
    study.add_trial(poor)
    verdicts = {name: make(9).prune(study, study.trials[-1]) for name, make in PRUNERS.items()}
    assert verdicts["median"] and not verdicts["none"]
