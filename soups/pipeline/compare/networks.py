"""What `scripts/compare.py` does: networks fine-tuned under one budget, side by side in a table and a figure."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from soups.cli import flags as cli
from soups.core.errors import PartialFailure, UsageError, UserError, unknown_name
from soups.core.metrics import METRICS
from soups.files.atomic import write_table, write_text
from soups.models.settings import ModelSettings
from soups.pipeline.compare.network_specs import TABLE, NetworkSpec, parse_network_specs
from soups.pipeline.run.create import create_run, name_of_data, planned_run, write_run_start
from soups.pipeline.run.run import Run, existing_run, warn_if_validation_flatters
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import evaluate_individuals
from soups.pipeline.score.throughput import images_per_second
from soups.pipeline.settings.compare import CompareSettings
from soups.pipeline.train.costs import measure_costs
from soups.pipeline.train.finetune import train_all
from soups.pipeline.train.plan import Task, plan
from soups.report.comparison import SetTruth
from soups.report.frontier import (
    NetworkResult,
    draw_frontier,
    flatten_rows,
    format_models,
    markdown_models,
    network_rows,
)
from soups.runtime.launchers import LaunchSettings, require_launcher
from soups.training.hyperparameters import canonicalize
from soups.training.optimizers import require_optimizer

logger = logging.getLogger(__name__)


class _Labelled(Protocol):
    @property
    def label(self) -> str: ...


Item = TypeVar("Item", bound=_Labelled)
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Contest:
    """One network with its run."""

    entrant: NetworkSpec
    run: Run
    costs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name in the table."""
        return self.entrant.label

    @property
    def context(self) -> RunContext:
        """What scoring its models needs."""
        settings = self.entrant.settings
        evaluation = settings.evaluation.model_copy(update={"metric": self.run.recorded.metric})
        return RunContext(self.run, self.run.runtime(settings.runtime), evaluation, settings.cache, settings.launch)

    def tasks(self, seeds: int) -> list[Task]:
        """The fine-tunes that are not finished.

        Raises:
            UsageError: one is there with other settings.
        """
        return plan(self.run, self.entrant.settings, self.context.runtime, list(range(seeds)))


def compare_models(given: cli.ParsedSettings[CompareSettings]) -> None:
    """Train what is not finished, then print the table and draw the figure.

    Raises:
        UsageError: settings that make no sense, an unknown network, or other settings than its run has; nothing is
            trained then.
        DataError: the data is not what it should be.
        PartialFailure: some networks failed; the others are in the table.
    """
    settings = given.settings
    name = settings.run.name or name_of_data(settings)
    entrants = parse_network_specs(settings, name)
    _check(settings, entrants)
    survivors = _Survivors(len(entrants))
    contests = survivors.of(entrants, lambda entrant: _entered(entrant, given.names), stop_at=UsageError)
    _refuse_other_images(contests)
    contests = survivors.of(contests, _measured)
    if settings.minutes is not None:
        contests = [_within(contest, settings.minutes) for contest in contests]
    tasks = {contest.label: contest.tasks(settings.seeds) for contest in contests}  # Refuses before any training.
    contests = survivors.of(contests, lambda contest: _trained(contest, tasks[contest.label], settings.launch))
    entries = survivors.of(contests, lambda contest: _scored(contest, settings.seeds))
    if entries:
        folder = Path(settings.run.runs_folder) / f"{name}-{TABLE}"
        _show(entries, contests[0].context, settings.cost, folder, name)
    survivors.tell()


@dataclass
class _Survivors:
    """Networks go on from stage to stage while nothing of theirs fails; the failures are told at the end."""

    number: int
    failures: dict[str, Exception] = field(default_factory=dict)

    def of(
        self, items: Sequence[Item], work: Callable[[Item], Result], stop_at: type[Exception] | tuple[()] = ()
    ) -> list[Result]:
        """What became of the items whose work went well; an exception of the kind `stop_at` ends everything."""
        results = []
        for item in items:
            try:
                results.append(work(item))
            except stop_at:
                raise
            except Exception as error:
                if not isinstance(error, UserError):
                    logger.error("%s failed", item.label, exc_info=error)
                self.failures[item.label] = error
        return results

    def tell(self) -> None:
        """Raise what failed, where anything did.

        Raises:
            PartialFailure: which networks, and why; of a single network, its own error.
        """
        if self.number == 1 and self.failures:
            raise next(iter(self.failures.values()))
        if self.failures:
            told = [f"{label}: {_told(error)}" for label, error in self.failures.items()]
            kept = "the others are in the table" if len(told) < self.number else "there is no table"
            raise PartialFailure(
                f"{len(told)} of {self.number} networks failed; {kept}\n  " + "\n  ".join(told),
                next_step="mend the cause and run the same command again: what is finished is not repeated",
            )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _check(settings: CompareSettings, entrants: Sequence[NetworkSpec]) -> None:
    """Find out before anything is written whether settings and data are in order and every network exists."""
    from soups.models.build import describe

    require_launcher(settings.launch)
    if settings.evaluation.metric not in METRICS:
        raise unknown_name("metric", settings.evaluation.metric, METRICS)
    if settings.run.model_location is not None:
        raise UsageError("--model-location: each network's models are in a run of its own", next_step="leave it out")
    if settings.training.hparams != "fixed":
        problem = f"--hparams {settings.training.hparams}: networks are compared under one budget"
        raise UsageError(problem, expected="fixed", next_step="leave --hparams out")
    if settings.minutes is not None and settings.runtime.jobs != 1:
        problem = "--minutes with --jobs: models that train side by side are slower than the measured speed"
        raise UsageError(problem, expected="one of them", next_step="leave --jobs out")
    new = [each for each in entrants if existing_run(each.settings.run, each.run_name) is None]
    for entrant in entrants:
        require_optimizer(entrant.settings.training)
        canonicalize(entrant.settings.training)
    for entrant in new:
        describe(entrant.settings.model)
    if new:
        planned_run(new[0].settings, new[0].run_name)


def _entered(entrant: NetworkSpec, given: frozenset[str]) -> _Contest:
    """A network with its run, which is made where it is not there."""
    run = create_run(entrant.settings, given | set(ModelSettings.model_fields))
    if not run.start.exists():
        write_run_start(run)
    return _Contest(entrant, run)


def _refuse_other_images(contests: Sequence[_Contest]) -> None:
    """Runs made earlier may have another split than those made now."""
    for contest in contests[1:]:
        if contest.run.fingerprints != contests[0].run.fingerprints:
            raise UsageError(
                f"run {contest.run.name!r} has other images, labels or splits than run {contests[0].run.name!r}",
                next_step="compare them under another --name",
            )
    if contests:
        warn_if_validation_flatters(contests[0].run)


def _measured(contest: _Contest) -> _Contest:
    """A network with its size and costs."""
    settings = contest.entrant.settings
    logger.info("%s: measuring its costs", contest.label)
    costs = measure_costs(Task(0, canonicalize(settings.training), settings, contest.run.name, contest.context.runtime))
    return replace(contest, costs=costs)


def _within(contest: _Contest, minutes: float) -> _Contest:
    """A network with as many epochs as it trains in so many minutes: at least one, and at least half of the last."""
    seconds = contest.costs["seconds_per_epoch"]
    epochs = max(1, round(60 * minutes / seconds))
    logger.info("%s: %d epochs of %.1f s in %g minutes", contest.label, epochs, seconds, minutes)
    return replace(contest, entrant=contest.entrant.with_epochs(epochs))


def _trained(contest: _Contest, tasks: Sequence[Task], launch: LaunchSettings) -> _Contest:
    train_all(tasks, launch)
    return contest


def _shown_set(context: RunContext) -> str:
    """Where accuracy is taken: the test set where its labels are known, else validation."""
    return "test" if "test" in context.labelled_sets() else "val"


def _scored(contest: _Contest, seeds: int) -> NetworkResult:
    """A network's row: what its fine-tunes say of the images, and its costs."""
    context, epochs = contest.context, contest.entrant.settings.training.epochs
    paths = {card.training["index"]: path for path, card in context.run.finetunes().items()}
    chosen = [paths[index] for index in range(seeds)]
    evaluate_individuals(context, with_start=False)
    name = _shown_set(context)
    outputs = tuple(context.probabilities(path, [name])[name] for path in chosen)
    speed = images_per_second(context, chosen[0])
    return NetworkResult(contest.label, outputs, {**contest.costs, "epochs": epochs, "images_per_second": speed})


def _show(entries: Sequence[NetworkResult], context: RunContext, cost: str, folder: Path, name: str) -> None:
    """Print the table, keep it as CSV and Markdown, and draw the figure."""
    import pandas as pd

    shown = _shown_set(context)
    truth = SetTruth(context.labels(shown), context.groups(shown))
    rows = network_rows(entries, truth, context.run.space.names, cost)
    words = f"{len(truth.labels)} {'test' if shown == 'test' else 'validation'} images"
    write_table(folder / "models.csv", pd.DataFrame(flatten_rows(rows)))
    write_text(folder / "models.md", markdown_models(rows, cost) + "\n")
    draw_frontier(
        rows, folder / "frontier.png", title=f"{name}: accuracy and cost", images=f"accuracy on {words}", cost=cost
    )
    groups = len(set(context.groups(shown)))
    print(f"comparison {name}: {words}" + f" of {groups} groups" * (groups != len(truth.labels)))
    print(format_models(rows, cost))
    print(folder / "frontier.png")
