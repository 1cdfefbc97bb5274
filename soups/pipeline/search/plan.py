"""Settings that a search records when it starts and that every later process of the search uses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from soups.cli.flags import ParsedSettings
from soups.core.errors import RecordedOtherwise, UsageError, as_typed, unknown_name
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
"""Objective: the gain of the greedy soup. All other objectives are metrics."""


class SearchPlan(BaseModel):
    """Settings that determine the trials and their ranking."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: Space
    search_sampler: str
    pruning: str
    objective: str
    search_seed: int
    metric: str
    """Metric of the soup scores; also of the values reported for pruning if the objective is `soup`."""
    training: dict[str, Any]
    """Training settings that are not searched, without those at their default."""
    cache_size: int | None
    split: str
    """Fingerprint of the images, their labels and the split."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the objective is better."""
        return self.objective == SOUP or METRICS[self.objective].higher_is_better

    def apply_to(self, finetuning: FinetuneSettings) -> FinetuneSettings:
        """Return fine-tune settings with the recorded values of this search."""
        return finetuning.model_copy(
            update={
                "training": TrainingSettings.model_validate(self.training),
                "cache": finetuning.cache.model_copy(update={"cache_size": self.cache_size}),
                "evaluation": finetuning.evaluation.model_copy(update={"metric": self.metric}),
            }
        )

    def max_epochs(self, base: TrainingSettings) -> int:
        """Return the number of epochs of the longest possible trial, linear-probe epochs included."""
        total = 0
        for name in ("epochs", "lp_epochs"):
            entry = self.space.get(name)
            highest = (getattr(base, name),) if entry is None else entry.choices or (entry.high,)
            total += max(int(each) for each in highest)  # type: ignore[arg-type]
        return total

    def rank(self, trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
        """Return the complete ones of some trials in the order of their numbers, best first, ties by number."""
        from optuna.trial import TrialState

        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return sorted(complete, key=lambda trial: trial.value or 0.0, reverse=self.higher_is_better)


def check_settings(parsed: ParsedSettings[SearchSettings]) -> None:
    """Check the settings that can be checked before the run exists.

    Raises:
        UsageError: The objective or the search space is unknown or invalid.
    """
    settings = parsed.settings
    if settings.objective is not None and settings.objective not in (*METRICS, SOUP):
        raise unknown_name("objective", settings.objective, (*METRICS, SOUP))
    if "space" in parsed.names:
        read_space(settings.space, settings.ranges, parsed.names)


def open_plan(
    parsed: ParsedSettings[SearchSettings], run: Run, finetuning: FinetuneSettings, trials: Trials
) -> SearchPlan:
    """Return the recorded plan of a search; record a new one if the search is new.

    Args:
        parsed: the user's settings; settings not given take their recorded values.
        run: the run whose fine-tunes are the trials.
        finetuning: settings of the run's fine-tunes.
        trials: the trials of the search.

    Raises:
        UsageError: Settings are invalid or differ from the recorded ones, or the run has other fine-tunes.
    """
    recorded = trials.recorded_settings()
    if recorded is None:
        if run.finetunes():
            raise UsageError(
                f"run {run.name!r} has fine-tunes that are not trials of this search",
                expected="a run without other fine-tunes: trial 0 is fine-tune 0",
                next_step="choose another --name, or give the --storage of the search",
            )
        new = _new_plan(parsed, finetuning, run)
        recorded = trials.create_study("maximize" if new.higher_is_better else "minimize", new.model_dump(mode="json"))
    plan = SearchPlan.model_validate(recorded)
    if plan.split != run.fingerprints[1]:
        raise UsageError(
            f"the search {run.name!r} in this storage has other images, labels or splits than this run",
            next_step="choose another --name: a database identifies a search by it",
        )
    _check_equal(plan, parsed, finetuning)
    return plan


def _new_plan(parsed: ParsedSettings[SearchSettings], finetuning: FinetuneSettings, run: Run) -> SearchPlan:
    """Return the plan of a new search, every trial of which can be trained.

    Raises:
        UsageError: A setting does not suit the search.
    """
    settings, base, metric = parsed.settings, finetuning.training, finetuning.evaluation.metric
    ranges = sorted(name for name in parsed.names if name in RandomRanges.model_fields)
    if ranges and settings.space != "paper":
        flag = ranges[0].replace("_", "-")
        raise UsageError(f"--{flag}: only for --space paper", found=f"--space {settings.space}")
    space = read_space(settings.space, settings.ranges, parsed.names)
    if base.hparams != "fixed":
        expected = "--space paper searches what --hparams random draws"
        raise UsageError(
            "--hparams: the search chooses the hyperparameters", expected=expected, next_step="omit --hparams"
        )
    if settings.pruning != "none" and base.validate_every != 1:
        raise UsageError(
            f"--pruning {settings.pruning} with --validate-every {base.validate_every}",
            expected="a validation after each epoch",
            next_step="omit --validate-every",
        )
    if (entry := space.get(START_MODEL)) is not None:
        assert base.start_from is not None
        for number in entry.choices or range(int(entry.low or 0), int(entry.high or 0) + 1, int(entry.step or 1)):
            start_file(Path(base.start_from), int(number))  # type: ignore[arg-type]
    return SearchPlan(
        space=space,
        search_sampler=settings.search_sampler,
        pruning=settings.pruning,
        objective=settings.objective or metric,
        search_seed=settings.search_seed,
        metric=metric,
        training=_fixed_training(settings.training),
        cache_size=finetuning.cache.cache_size,
        split=run.fingerprints[1],
    )


def _fixed_training(training: TrainingSettings) -> dict[str, Any]:
    return canonicalize(training).model_dump(mode="json", exclude_defaults=True, exclude={"validate_every"})


def _check_equal(plan: SearchPlan, parsed: ParsedSettings[SearchSettings], finetuning: FinetuneSettings) -> None:
    """Check that the settings given by the user equal the recorded ones.

    Raises:
        UsageError: A setting differs.
    """
    names, settings = parsed.names, parsed.settings
    training = _fixed_training(settings.training)
    compared: list[tuple[str, Any, Any]] = [
        ("metric", plan.metric, finetuning.evaluation.metric),
        ("cache_size", plan.cache_size, settings.cache.cache_size),
    ]
    for name in ("search_sampler", "pruning", "objective", "search_seed"):
        compared.append((name, getattr(plan, name), getattr(settings, name)))
    for name, field in TrainingSettings.model_fields.items():
        if name != "validate_every":  # It decides neither the trials nor their ranking.
            compared.append((name, plan.training.get(name, field.default), training.get(name, field.default)))
    compared = [each for each in compared if each[0] in names]
    if names & {"space", *RandomRanges.model_fields}:
        space = read_space(settings.space, settings.ranges, names)
        for name in {**plan.space, **space}:
            compared.append((f"space: {name}", plan.space.get(name, "not searched"), space.get(name, "not searched")))
    for name, recorded, requested in compared:
        if requested != recorded:
            raise RecordedOtherwise(
                f"--{name.replace('_', '-')}: differs from the recorded setting of this search",
                expected=_format_setting(recorded),
                found=_format_setting(requested),
                next_step="omit it, or start another search with another --name",
            )


def _format_setting(value: Any) -> str:
    return json.dumps(value.as_entry()) if isinstance(value, Hyperparameter) else as_typed(value)
