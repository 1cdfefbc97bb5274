"""The command compare: fine-tunes networks under one budget and compares them in a table and a figure."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from soups.cli.flags import ParsedSettings
from soups.core.errors import PartialFailure, UsageError, UserError, unknown_name
from soups.core.metrics import METRICS
from soups.files.atomic import write_table, write_text
from soups.models.build import describe
from soups.models.settings import ModelSettings
from soups.pipeline.compare.network_specs import TABLE, NetworkSpec, parse_network_specs
from soups.pipeline.run.create import create_run, plan_run, write_run_start
from soups.pipeline.run.refused_start import discard_refused_runs
from soups.pipeline.run.run import Run, existing_run, warn_if_validation_flatters
from soups.pipeline.run.run_name import default_run_name
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import evaluate_individuals
from soups.pipeline.score.throughput import images_per_second
from soups.pipeline.settings.compare import CompareSettings
from soups.pipeline.train.costs import measure_costs
from soups.pipeline.train.finetune import train_all
from soups.pipeline.train.plan import Task, plan
from soups.report import frontier
from soups.report.comparison import SetTruth
from soups.report.frontier import NetworkResult
from soups.runtime.launchers import require_launcher
from soups.training.hyperparameters import canonicalize
from soups.training.optimizers import require_optimizer

logger = logging.getLogger(__name__)


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Network:
    """A network with its run and its measurements."""

    spec: NetworkSpec
    run: Run
    costs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> RunContext:
        """Return the context that scores its models."""
        settings = self.spec.settings
        evaluation = settings.evaluation.model_copy(update={"metric": self.run.recorded.metric})
        return RunContext(self.run, self.run.runtime(settings.runtime), evaluation, settings.cache, settings.launch)


def compare_models(parsed: ParsedSettings[CompareSettings]) -> None:
    """Train what is not finished, print the table and draw the figure.

    Raises:
        UsageError: invalid settings, an unknown network, or settings that differ from those of its run; nothing is
            trained.
        DataError: invalid data.
        PartialFailure: some networks failed; the others are in the table.
    """
    with discard_refused_runs(parsed.settings.run):
        _compare_models(parsed)


def _compare_models(parsed: ParsedSettings[CompareSettings]) -> None:
    settings = parsed.settings
    name = settings.run.name or default_run_name(settings)
    specs = {spec.label: spec for spec in parse_network_specs(settings, name)}
    _check_before_writing(settings, list(specs.values()))
    failures = _Failures()
    networks = failures.collect(specs, lambda spec: _open_run(spec, parsed.names), stop_at=UsageError)
    _check_same_split(list(networks.values()))
    networks = failures.collect(networks, lambda network: _measure(network, settings.minutes))
    indices = list(range(settings.seeds))
    tasks = {  # Raises before any training.
        label: plan(network.run, network.spec.settings, network.context.runtime, indices)
        for label, network in networks.items()
    }
    trained = failures.collect(tasks, lambda each: train_all(each, settings.launch))
    networks = {label: networks[label] for label in trained}
    results = failures.collect(networks, lambda network: _result_of(network, indices))
    if results:
        folder = Path(settings.run.runs_folder) / f"{name}-{TABLE}"
        context = next(iter(networks.values())).context
        _write_results(list(results.values()), context, settings.cost, folder, name)
    failures.raise_any(len(specs))


class _Failures(dict[str, Exception]):
    """Failures by network, collected so that the others go on; they are reported at the end."""

    def collect(
        self, items: Mapping[str, Item], work: Callable[[Item], Result], stop_at: type[Exception] | tuple[()] = ()
    ) -> dict[str, Result]:
        """Return label → result of the items that succeeded; an exception of type `stop_at` is raised at once."""
        results = {}
        for label, item in items.items():
            try:
                results[label] = work(item)
            except stop_at:
                raise
            except Exception as error:
                if not isinstance(error, UserError):
                    logger.error("%s failed", label, exc_info=error)
                self[label] = error
        return results

    def raise_any(self, number: int) -> None:
        """Raise what failed of `number` networks, if anything did.

        Raises:
            PartialFailure: which networks failed and why; for a single network, its own error.
        """
        if self and number == 1:
            raise next(iter(self.values()))
        if self:
            lines = []
            for label, error in self.items():
                kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                lines.append(f"{label}: {kind}{error}")
            kept = "the others are in the table" if len(lines) < number else "there is no table"
            raise PartialFailure(
                f"{len(lines)} of {number} networks failed; {kept}\n  " + "\n  ".join(lines),
                next_step="mend the cause and run the same command again: what is finished is not repeated",
            )


def _check_before_writing(settings: CompareSettings, specs: Sequence[NetworkSpec]) -> None:
    """Check settings, data and networks before anything is written."""
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
    new = [each for each in specs if existing_run(each.settings.run, each.run_name) is None]
    for spec in specs:
        require_optimizer(spec.settings.training)
        canonicalize(spec.settings.training)
    for spec in new:
        describe(spec.settings.model)
    if new:
        plan_run(new[0].settings, new[0].run_name)


def _open_run(spec: NetworkSpec, names: frozenset[str]) -> _Network:
    """Return a network with its run, which is made if it does not exist."""
    run = create_run(spec.settings, names | set(ModelSettings.model_fields))
    if not run.start.exists():
        write_run_start(run)
    return _Network(spec, run)


def _check_same_split(networks: Sequence[_Network]) -> None:
    """Raise where earlier runs have another split than new ones."""
    for network in networks[1:]:
        if network.run.fingerprints != networks[0].run.fingerprints:
            raise UsageError(
                f"run {network.run.name!r} has other images, labels or splits than run {networks[0].run.name!r}",
                next_step="compare them under another --name",
            )
    if networks:
        warn_if_validation_flatters(networks[0].run)


def _measure(network: _Network, minutes: float | None) -> _Network:
    """Return a network with its size and costs, and with the epochs that it trains in `minutes`.

    At least one epoch; the last one counts from one half on.
    """
    label, settings = network.spec.label, network.spec.settings
    logger.info("%s: measuring its costs", label)
    costs = measure_costs(Task(0, canonicalize(settings.training), settings, network.run.name, network.context.runtime))
    if minutes is None:
        return replace(network, costs=costs)
    epochs = max(1, round(60 * minutes / costs["seconds_per_epoch"]))
    logger.info("%s: %d epochs of %.1f s in %g minutes", label, epochs, costs["seconds_per_epoch"], minutes)
    training = settings.training.model_copy(update={"epochs": epochs})
    spec = replace(network.spec, settings=settings.model_copy(update={"training": training}))
    return replace(network, costs=costs, spec=spec)


def _accuracy_set(context: RunContext) -> str:
    """Return the set for accuracy: the test set where its labels are known, else validation."""
    return "test" if "test" in context.labelled_sets() else "val"


def _result_of(network: _Network, indices: Sequence[int]) -> NetworkResult:
    """Return the result row of a network: predictions of its fine-tunes, and costs."""
    context, epochs = network.context, network.spec.settings.training.epochs
    paths = {card.training["index"]: path for path, card in context.run.finetunes().items()}
    chosen = [paths[index] for index in indices]
    evaluate_individuals(context, with_start=False)
    name = _accuracy_set(context)
    outputs = tuple(context.probabilities(path, [name])[name] for path in chosen)
    speed = images_per_second(context, chosen[0])
    costs = {**network.costs, "epochs": epochs, "images_per_second": speed}
    return NetworkResult(network.spec.label, outputs, costs)


def _write_results(results: Sequence[NetworkResult], context: RunContext, cost: str, folder: Path, name: str) -> None:
    """Print the table, write it as CSV and Markdown, and draw the figure."""
    shown = _accuracy_set(context)
    truth = SetTruth(context.labels(shown), context.groups(shown))
    rows = frontier.network_rows(results, truth, context.run.space.names, cost)
    words = f"{len(truth.labels)} {'test' if shown == 'test' else 'validation'} images"
    write_table(folder / "models.csv", pd.json_normalize(rows, sep="_"))  # A column `f1_<class>` for each class.
    write_text(folder / "models.md", frontier.markdown_networks(rows, cost) + "\n")
    figure = folder / "frontier.png"
    frontier.draw_frontier(rows, figure, title=f"{name}: accuracy and cost", images=f"accuracy on {words}", cost=cost)
    groups = len(set(context.groups(shown)))
    print(f"comparison {name}: {words}" + f" of {groups} groups" * (groups != len(truth.labels)))
    print(frontier.format_networks(rows, cost), figure, sep="\n")
