"""The command `search`: hyperparameter search in which each trial is a fine-tune of the run."""

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
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, PartialFailure, TrainingDiverged, UsageError
from soups.core.metrics import METRICS
from soups.core.notes import hold_notices
from soups.files.atomic import hold_lock
from soups.pipeline.run.refused_start import discard_refused_runs
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import RunContext
from soups.pipeline.search.plan import SOUP, SearchPlan, check_settings, open_plan
from soups.pipeline.search.results import show_results
from soups.pipeline.search.soup_gain import SoupGain, remove_surplus_checkpoints
from soups.pipeline.search.storage import explain_database_errors, open_storage
from soups.pipeline.search.trials import Trials, open_trials
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.settings.search import SearchSettings
from soups.pipeline.train.announce import NOTICES, announcement
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

_POLL_SECONDS = 1.0
_FINISH_LOCK = "search-appraisal"


def search(parsed: ParsedSettings[SearchSettings]) -> None:
    """Run trials until the search has all of them, then show the results.

    Raises:
        UsageError: Settings are invalid or differ from the recorded settings of the search.
        EnvironmentFailure: The database does not respond.
        PartialFailure: Some trials failed; the checkpoints of the others stay.
    """
    check_settings(parsed)
    settings = parsed.settings
    if settings.storage is not None:
        open_storage(Path(), settings.storage)  # Fails faster than creating the run.
    common = {name: value for name, value in settings if name in FinetuneSettings.model_fields}
    with discard_refused_runs(settings.run), explain_database_errors(settings.storage):
        with hold_notices(*NOTICES) as notes:
            run, finetuning, runtime = open_for_training(FinetuneSettings(**common), parsed.names)
        trials = open_trials(run.name, run.folder, settings.storage)
        search_plan = open_plan(parsed, run, finetuning, trials)
        finetuning = search_plan.apply_to(finetuning)
        worker = SearchWorker(settings.trials, settings.keep, settings.storage, search_plan, finetuning, runtime, run)
        left = settings.trials - sum(trial.state.is_finished() for trial in trials.all())
        if left > 0:
            logger.info("%s", announcement(run, runtime, [], notes, f"{left} of {settings.trials} trials"))
        jobs = min(runtime.jobs, max(1, left))
        for _, result in run_all(run_trials, [worker] * jobs, jobs):
            if isinstance(result, Exception):
                raise result
        failed = show_results(trials, search_plan, run, finetuning.wandb)
        if failed:
            raise PartialFailure(
                f"{len(failed)} of {len(trials.all())} trials failed; the others are kept\n  " + "\n  ".join(failed),
                next_step="narrow --space or remove the cause; failed trials are not repeated",
            )


def run_trials(worker: "SearchWorker") -> None:
    """Run trials of a search until none is left; entry point of a worker process.

    Raises:
        UserError: The work cannot go on, for example on a full disk; the interrupted trial is run again later.
    """
    worker = replace(worker, runtime=worker.runtime.for_worker(worker_number()))
    waiting_logged = False
    with explain_database_errors(worker.storage):
        while True:
            with worker.trials.claim(worker.total, worker.propose) as trial:
                if trial is not None:
                    worker.run_trial(trial)
                    waiting_logged = False
                    continue
            running = [trial.number for trial in worker.trials.all() if not trial.state.is_finished()]
            if not running:
                return
            if not waiting_logged:
                logger.info("waiting for other processes to finish trials %s", ", ".join(map(str, running)))
                waiting_logged = True
            time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class SearchWorker:
    """A search as one of its workers runs it; sent to each before it opens the trials."""

    total: int
    keep: int | None
    storage: str | None
    plan: SearchPlan
    finetuning: FinetuneSettings
    runtime: Runtime
    run: Run

    @cached_property
    def trials(self) -> Trials:
        """The trials, opened by this process."""
        return open_trials(self.run.name, self.run.folder, self.storage)

    @cached_property
    def soup_gain(self) -> SoupGain:
        """Soups of the finished trials."""
        return SoupGain(RunContext(self.run, self.runtime, self.finetuning.evaluation, self.finetuning.cache))

    def propose(self, study: "Study", number: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return the parameters and distributions of the next trial."""
        sampler, seed, space = self.plan.search_sampler, self.plan.search_seed, self.plan.space
        return draw_trial(sampler, seed, study, number, space), distributions(space)

    def run_trial(self, trial: "FrozenTrial") -> None:
        """Train a trial, resuming it if it was interrupted, and record its outcome."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        parameters = ", ".join(f"{name}={value}" for name, value in trial.params.items())
        logger.info("trial %d of %d: %s", trial.number, self.total, parameters)
        try:
            training = apply_trial(self.plan.space, trial.params, self.finetuning.training)
            path = self._train(trial, training)
        except TrialPruned:
            logger.info("trial %d: pruned", trial.number)
            self.trials.finish(trial, TrialState.PRUNED)
        except TrainingDiverged as error:
            logger.info("trial %d: %s", trial.number, error.problem)
            self.trials.finish(trial, TrialState.PRUNED, note=error.problem)
        except (UsageError, DataError) as error:
            logger.warning("trial %d: %s", trial.number, error)
            self.trials.finish(trial, TrialState.FAIL, note=" ".join(str(error).split()))
        else:
            self._finish_trained(trial, path)
            return
        # Pruned and failed trials are never resumed.
        self.run.state_path(trial.number).unlink(missing_ok=True)

    def _train(self, trial: "FrozenTrial", training: TrainingSettings) -> Path:
        """Train a trial if it is not trained yet; returns its checkpoint.

        Raises:
            TrialPruned: The pruner stopped the trial.
        """
        run = self.run
        settings = self.finetuning.model_copy(update={"training": training})
        tasks = plan(run, settings, self.runtime, [trial.number])
        if tasks:
            return train_one(tasks[0], partial(self._report_epoch, trial, training.epochs + training.lp_epochs))
        return run.models / f"{run.model_name(trial.number)}_epochs{training.epochs}{SUFFIX}"

    def _report_epoch(self, trial: "FrozenTrial", last: int, line: dict[str, Any]) -> None:
        """Report the metric after an epoch and stop the trial if the pruner says so.

        Raises:
            TrialPruned: The pruner stops the trial.
        """
        from optuna import TrialPruned

        search_plan = self.plan
        if search_plan.pruning == "none" or "val" not in line:
            return
        metric = METRICS[search_plan.metric if search_plan.objective == SOUP else search_plan.objective]
        # Better must mean the same as for the objective; a higher gain of the soup is better.
        value = line["val"][metric.name] * (-1 if search_plan.objective == SOUP and not metric.higher_is_better else 1)
        if not math.isfinite(value):
            return
        reached = self.trials.report(trial, line["epoch"], value)
        pruner = PRUNERS[search_plan.pruning](search_plan.max_epochs(self.finetuning.training))
        if line["epoch"] < last and pruner.prune(self.trials.study(), reached):
            raise TrialPruned

    def _finish_trained(self, trial: "FrozenTrial", path: Path) -> None:
        """Record the objective of a trained trial and remove surplus checkpoints."""
        from optuna.trial import TrialState

        search_plan, card = self.plan, read_card(path)
        assert card is not None
        # The lock serializes this: a trial's gain depends on all finished trials, whose files must not be removed
        # meanwhile.
        with hold_lock(self.run.folder, _FINISH_LOCK):
            if search_plan.objective == SOUP:
                value = self.soup_gain.gain(path, self._finished_checkpoints())
            else:
                value = card.scores["val"][search_plan.objective]
            self.trials.finish(trial, TrialState.COMPLETE, value, model=path.stem)
            logger.info("trial %d: %s %.4f", trial.number, search_plan.objective.replace("_", " "), value)
            if self.keep is not None:
                remove_surplus_checkpoints(self.soup_gain, self._finished_checkpoints(), self.keep)

    def _finished_checkpoints(self) -> list[Path]:
        """Return the existing checkpoints of the complete trials, best first."""
        names = [trial.user_attrs["model"] for trial in self.plan.rank(self.trials.all())]
        return [path for name in names if (path := self.run.models / f"{name}{SUFFIX}").exists()]
