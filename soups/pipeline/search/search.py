"""What `scripts/search.py` does: trials that learn from those before, each a fine-tune of the run."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.cli import flags as cli
from soups.core.errors import DataError, PartialFailure, TrainingDiverged, UsageError
from soups.core.metrics import METRICS
from soups.files.atomic import hold_lock
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import RunContext
from soups.pipeline.search.plan import SOUP, SearchPlan, check_settings, open_plan
from soups.pipeline.search.results import show_results
from soups.pipeline.search.soup_gain import SoupGain, remove_surplus_checkpoints
from soups.pipeline.search.storage import explain_database_errors, open_storage
from soups.pipeline.search.trials import Trials, open_trials
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.settings.search import SearchSettings
from soups.pipeline.train.finetune import open_for_training
from soups.pipeline.train.one_model import train_one
from soups.pipeline.train.plan import plan
from soups.runtime.devices import Runtime
from soups.runtime.workers import run_all, worker_number
from soups.training.samplers import PRUNERS, distributions, draw_trial
from soups.training.search_space import apply_trial
from soups.training.settings import TrainingSettings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0
_APPRAISAL_LOCK = "search-appraisal"
_SHARED = ("run", "data", "cache", "model", "evaluation", "runtime", "near_duplicates", "training", "ranges", "wandb")
"""Fields that the settings of a search and of a fine-tune have in common."""


def search(given: cli.ParsedSettings[SearchSettings]) -> None:
    """Work at the search until it has all of its trials, then show what came out.

    Raises:
        UsageError: settings that make no sense, or differ from those that the search was begun with.
        EnvironmentFailure: the database does not answer.
        PartialFailure: some trials failed; the others are kept.
    """
    check_settings(given)
    if given.settings.storage is not None:
        open_storage(Path(), given.settings.storage)  # Before a run is made, which takes longer.
    with explain_database_errors(given.settings.storage):
        _search(given)


def _search(given: cli.ParsedSettings[SearchSettings]) -> None:
    settings = given.settings
    wanted = FinetuneSettings(**{name: getattr(settings, name) for name in _SHARED})
    run, finetuning, runtime = open_for_training(wanted, given.names)
    trials = open_trials(run.name, run.folder, settings.storage)
    plan_ = open_plan(given, run, finetuning, trials)
    finetuning = plan_.obeyed(finetuning)
    work = WorkerTask(run.name, settings.trials, settings.keep, settings.storage, plan_, finetuning, runtime, run)
    jobs = min(runtime.jobs, max(1, settings.trials - sum(trial.state.is_finished() for trial in trials.all())))
    for _, result in run_all(run_worker, [work] * jobs, jobs):
        if isinstance(result, Exception):
            raise result
    failed = show_results(trials, plan_, run, finetuning.wandb)
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(trials.all())} trials failed; the others are kept\n  " + "\n  ".join(failed),
            next_step="narrow the space, or mend the cause; the trials that failed are not repeated",
        )


@dataclass(frozen=True)
class WorkerTask:
    """A search as it is sent to each process that works at it."""

    name: str
    total: int
    keep: int | None
    storage: str | None
    plan: SearchPlan
    finetuning: FinetuneSettings
    runtime: Runtime
    run: Run

    @property
    def context(self) -> RunContext:
        """What scores trials."""
        return RunContext(self.run, self.runtime, self.finetuning.evaluation, self.finetuning.cache)

    @property
    def sign(self) -> int:
        """What makes the reports of a metric as good as the objective says: for `soup`, higher is better."""
        return 1 if self.plan.objective != SOUP or METRICS[self.plan.metric].higher_is_better else -1


def run_worker(work: WorkerTask) -> None:
    """Work at a search's trials, one after the other, until none is left; in a process of its own or beside others.

    Raises:
        UserError: what stops the work, such as a full disk; the trial that it came up in will be repeated.
    """
    work = replace(work, runtime=work.runtime.for_worker(worker_number()))
    participant = _Participant(work, open_trials(work.name, work.run.folder, work.storage), SoupGain(work.context))
    with explain_database_errors(work.storage):
        _work_until_none_is_left(participant, work.total)


def _work_until_none_is_left(participant: "_Participant", total: int) -> None:
    told = False
    while True:
        with participant.trials.claimed(total, participant.propose) as trial:
            if trial is not None:
                participant.work_at(trial)
                told = False
                continue
        running = [trial.number for trial in participant.trials.all() if not trial.state.is_finished()]
        if not running:
            return
        if not told:
            logger.info("waiting for other processes to finish trials %s", ", ".join(map(str, running)))
            told = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


@dataclass
class _Participant:
    """One process at work."""

    work: WorkerTask
    trials: Trials
    appraiser: SoupGain

    def propose(self, study: "Study", number: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """What to try next."""
        plan_ = self.work.plan
        return draw_trial(plan_.search_sampler, plan_.search_seed, study, number, plan_.space), distributions(
            plan_.space
        )

    def work_at(self, trial: "FrozenTrial") -> None:
        """Train a trial, as far as it is not trained, and tell what became of it."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        told = ", ".join(f"{name}={value}" for name, value in trial.params.items())
        logger.info("trial %d of %d: %s", trial.number, self.work.total, told)
        try:
            training = apply_trial(self.work.plan.space, trial.params, self.work.finetuning.training)
            path = self._trained(trial, training)
        except TrialPruned:
            logger.info("trial %d: given up", trial.number)
            self.trials.finish(trial, TrialState.PRUNED)
        except TrainingDiverged as error:
            logger.info("trial %d: %s", trial.number, error.problem)
            self.trials.finish(trial, TrialState.PRUNED, note=error.problem)
        except (UsageError, DataError) as error:
            logger.warning("trial %d: %s", trial.number, error)
            self.trials.finish(trial, TrialState.FAIL, note=" ".join(str(error).split()))
        else:
            self._appraise(trial, path)
            return
        # It will not be gone on with.
        self.work.run.state_path(trial.number).unlink(missing_ok=True)

    def _trained(self, trial: "FrozenTrial", training: TrainingSettings) -> Path:
        """The checkpoint of a trial.

        Raises:
            TrialPruned: it was given up on the way.
        """
        work = self.work
        settings = work.finetuning.model_copy(update={"training": training})
        tasks = plan(work.run, settings, work.runtime, [trial.number])
        if tasks:
            return train_one(tasks[0], partial(self._watch, trial, _epochs(training)))
        return work.run.models / f"{work.name}{trial.number}_epochs{training.epochs}{SUFFIX}"

    def _watch(self, trial: "FrozenTrial", last: int, line: dict[str, Any]) -> None:
        """Tell what a trial has reached, and give it up where it is not worth its time."""
        from optuna import TrialPruned

        plan_ = self.work.plan
        if plan_.pruning == "none" or "val" not in line:
            return
        name = plan_.metric if plan_.objective == SOUP else plan_.objective
        value = self.work.sign * line["val"][name]
        if not math.isfinite(value):
            return
        reached = self.trials.report(trial, line["epoch"], value)
        if line["epoch"] < last and self._pruner.prune(self.trials.study(), reached):
            raise TrialPruned

    @cached_property
    def _pruner(self) -> Any:
        plan_ = self.work.plan
        return PRUNERS[plan_.pruning](plan_.most_epochs(self.work.finetuning.training))

    def _appraise(self, trial: "FrozenTrial", path: Path) -> None:
        """Tell what a trained trial is worth, and drop what nobody needs any more."""
        from optuna.trial import TrialState

        plan_, card = self.work.plan, read_card(path)
        assert card is not None
        # One at a time: the gain of a trial is over all that are finished, and none of them may vanish meanwhile.
        with hold_lock(self.work.run.folder, _APPRAISAL_LOCK):
            if plan_.objective == SOUP:
                value = self.appraiser.gain(path, self._finished().values())
            else:
                value = card.scores["val"][plan_.objective]
            self.trials.finish(trial, TrialState.COMPLETE, value, model=path.stem)
            logger.info("trial %d: %s %.4f", trial.number, plan_.objective.replace("_", " "), value)
            if self.work.keep is not None:
                remove_surplus_checkpoints(self.appraiser, list(self._finished().values()), self.work.keep)

    def _finished(self) -> dict[int, Path]:
        """Number → checkpoint of the complete trials whose file is there, the best first."""
        ranked = self.work.plan.ranked(self.trials.all())
        paths = {one.number: self.work.run.models / f"{one.user_attrs['model']}{SUFFIX}" for one in ranked}
        return {number: path for number, path in paths.items() if path.exists()}


def _epochs(training: TrainingSettings) -> int:
    return training.epochs + training.lp_epochs
