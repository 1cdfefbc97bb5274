"""What a search was begun with: agreed on once, kept with its trials, obeyed by every process that works at it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from soups.cli import flags as cli
from soups.core.errors import UsageError, unknown_name
from soups.core.metrics import METRICS
from soups.pipeline.run.run import Run
from soups.pipeline.search.trials import Trials
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.settings.search import SearchSettings
from soups.training.hyperparameters import canonicalize
from soups.training.search_space import START_MODEL, Hyperparameter, Space, read_space, start_file
from soups.training.settings import RandomRanges, TrainingSettings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SOUP = "soup"
"""The objective that is no metric."""


class SearchPlan(BaseModel):
    """What decides which trials there are and which of them is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: Space
    search_sampler: str
    pruning: str
    objective: str
    search_seed: int
    metric: str
    """By which soups are judged, and reports made where the objective is `soup`."""
    training: dict[str, Any]
    """What is not searched, where it is not at its default."""
    cache_size: int | None
    split: str
    """Fingerprint of the images, their labels and who validates."""

    @property
    def higher_is_better(self) -> bool:
        """Of the objective."""
        return self.objective == SOUP or METRICS[self.objective].higher_is_better

    def obeyed(self, finetuning: FinetuneSettings) -> FinetuneSettings:
        """The settings of fine-tunes with all that the search was begun with."""
        return finetuning.model_copy(
            update={
                "training": TrainingSettings.model_validate(self.training),
                "cache": finetuning.cache.model_copy(update={"cache_size": self.cache_size}),
                "evaluation": finetuning.evaluation.model_copy(update={"metric": self.metric}),
            }
        )

    def most_epochs(self, base: TrainingSettings) -> int:
        """The epochs of the longest trial, those of the head alone counted."""
        return sum(_highest(self.space.get(name), getattr(base, name)) for name in ("epochs", "lp_epochs"))

    def ranked(self, trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
        """The complete trials, the best first; of equal ones, the earliest."""
        from optuna.trial import TrialState

        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        sign = -1 if self.higher_is_better else 1
        return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def _highest(entry: Hyperparameter | None, fixed: int) -> int:
    if entry is None:
        return fixed
    return max(int(each) for each in entry.choices or (entry.high,))  # type: ignore[arg-type]


def check_settings(given: cli.ParsedSettings[SearchSettings]) -> None:
    """Look at what can be told to be wrong before there is a run.

    Raises:
        UsageError: an objective or a space that is not there, or that makes no sense.
    """
    settings = given.settings
    if settings.objective is not None and settings.objective not in (*METRICS, SOUP):
        raise unknown_name("objective", settings.objective, (*METRICS, SOUP))
    if "space" in given.names:
        read_space(settings.space, settings.ranges, given.names)


def open_plan(
    given: cli.ParsedSettings[SearchSettings], run: Run, finetuning: FinetuneSettings, trials: Trials
) -> SearchPlan:
    """The plan of a search: as it was begun, or begun now.

    Args:
        given: what the user says; what they leave out is as recorded.
        run: in which the trials are trained.
        finetuning: the settings of its fine-tunes.
        trials: of the search.

    Raises:
        UsageError: settings that make no sense or differ from those recorded, or a run that has other fine-tunes.
    """
    recorded = trials.settings()
    if recorded is not None:
        plan = SearchPlan.model_validate(recorded)
        if plan.split != run.fingerprints[1]:
            raise UsageError(
                f"the search {run.name!r} in this storage has other images, labels or splits than the run here",
                next_step="choose another --name: in a database it is the search's name",
            )
        _check_same(plan, given, finetuning)
        return plan
    if run.finetunes():
        raise UsageError(
            f"run {run.name!r} has fine-tunes that are no trials of this search",
            expected="a run of its own: trial 0 is fine-tune 0",
            next_step="give another --name, or the --storage that the search was begun with",
        )
    plan = _planned(given, finetuning, run)
    _check(plan, given.settings, finetuning.training)
    trials.begin("maximize" if plan.higher_is_better else "minimize", plan.model_dump(mode="json"))
    # Another machine may have begun it at the same moment.
    return open_plan(given, run, finetuning, trials)


def _planned(given: cli.ParsedSettings[SearchSettings], finetuning: FinetuneSettings, run: Run) -> SearchPlan:
    settings, metric = given.settings, finetuning.evaluation.metric
    objective = settings.objective or metric
    ranges = sorted(name for name in given.names if name in RandomRanges.model_fields)
    if ranges and settings.space != "paper":
        flag = ranges[0].replace("_", "-")
        raise UsageError(f"--{flag}: a range of --space paper", found=f"--space {settings.space}")
    return SearchPlan(
        space=read_space(settings.space, settings.ranges, given.names),
        search_sampler=settings.search_sampler,
        pruning=settings.pruning,
        objective=objective,
        search_seed=settings.search_seed,
        metric=metric,
        training=_base(settings.training),
        cache_size=finetuning.cache.cache_size,
        split=run.fingerprints[1],
    )


def _base(training: TrainingSettings) -> dict[str, Any]:
    return canonicalize(training).model_dump(mode="json", exclude_defaults=True, exclude={"validate_every"})


def _check(plan: SearchPlan, settings: SearchSettings, base: TrainingSettings) -> None:
    """Raise where no trial, or not every one, could be trained."""
    if base.hparams != "fixed":
        expected = "--space paper searches what --hparams random draws"
        raise UsageError(
            "--hparams: the search chooses the hyperparameters", expected=expected, next_step="leave it out"
        )
    if plan.pruning != "none" and base.validate_every != 1:
        raise UsageError(
            f"--pruning {plan.pruning} with --validate-every {base.validate_every}",
            expected="a validation after each epoch",
            next_step="leave --validate-every out",
        )
    if START_MODEL in plan.space:
        entry = plan.space[START_MODEL]
        assert base.start_from is not None
        numbers = entry.choices or range(int(entry.low or 0), int(entry.high or 0) + 1, int(entry.step or 1))
        for number in numbers:
            start_file(Path(base.start_from), int(number))  # type: ignore[arg-type]


def _check_same(plan: SearchPlan, given: cli.ParsedSettings[SearchSettings], finetuning: FinetuneSettings) -> None:
    """Raise where something that the user gave differs from what the search was begun with."""
    names, settings = given.names, given.settings
    for name in ("search_sampler", "pruning", "objective", "search_seed", "metric", "cache_size"):
        wanted = finetuning.evaluation.metric if name == "metric" else getattr(settings, name, None)
        wanted = settings.cache.cache_size if name == "cache_size" else wanted
        if name in names and wanted != getattr(plan, name):
            raise _differs(name, getattr(plan, name), wanted)
    base = _base(settings.training)
    for name in sorted(names & set(TrainingSettings.model_fields)):
        default = TrainingSettings.model_fields[name].default
        if name != "validate_every" and base.get(name, default) != plan.training.get(name, default):
            raise _differs(name, plan.training.get(name, default), base.get(name, default))
    if "space" in names or names & set(RandomRanges.model_fields):
        wanted_space = read_space(settings.space, settings.ranges, names)
        for name in (*plan.space, *wanted_space):
            if plan.space.get(name) != wanted_space.get(name):
                raise _differs(f"space: {name}", _told(plan.space.get(name)), _told(wanted_space.get(name)))


def _told(entry: Hyperparameter | None) -> str:
    return "not searched" if entry is None else json.dumps(entry.as_entry())


def _differs(name: str, recorded: Any, wanted: Any) -> UsageError:
    return UsageError(
        f"--{name.replace('_', '-')}: the search was begun with something else",
        expected=str(recorded),
        found=str(wanted),
        next_step="leave it out, or start another search with another --name",
    )
