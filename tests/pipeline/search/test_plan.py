"""The recorded settings of a search: ranking of trials, longest trial, checks before the run exists."""

from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.pipeline.search.plan import SearchPlan, check_settings
from soups.pipeline.settings.search import SearchSettings
from soups.training.search_space import Hyperparameter
from soups.training.settings import TrainingSettings


def plan(**changes: Any) -> SearchPlan:
    settings = {
        "space": {},
        "search_sampler": "tpe",
        "pruning": "none",
        "objective": "accuracy",
        "search_seed": 0,
        "metric": "log_loss",
        "training": {},
        "cache_size": None,
        "split": "abc",
    }
    return SearchPlan.model_validate({**settings, **changes})


@pytest.mark.parametrize(
    ("objective", "order"), [("accuracy", [2, 0, 3, 4]), ("soup", [2, 0, 3, 4]), ("log_loss", [4, 0, 3, 2])]
)
def test_complete_trials_are_ranked_by_the_objective(objective: str, order: list[int]) -> None:
    trials = []
    for number, value in enumerate((0.5, None, 0.9, 0.5, 0.1)):
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        trial = create_trial(state=state, value=value)
        trial.number = number
        trials.append(trial)
    assert [trial.number for trial in plan(objective=objective).rank(trials)] == order


def test_the_longest_trial_has_the_most_epochs_of_the_space() -> None:
    base = TrainingSettings(epochs=3, lp_epochs=1)
    assert plan().max_epochs(base) == 4
    assert plan(space={"epochs": Hyperparameter(low=2, high=7)}).max_epochs(base) == 8
    assert plan(space={"lp_epochs": Hyperparameter(choices=(0, 5, 2))}).max_epochs(base) == 8


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown objective 'acuracy'(.|\n)*did you mean 'accuracy'"):
        check_settings(ParsedSettings(SearchSettings(objective="acuracy"), frozenset({"objective"})))
    check_settings(ParsedSettings(SearchSettings(objective="soup"), frozenset({"objective"})))
