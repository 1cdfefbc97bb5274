"""Logits and scores of the models of a run: computed once, logged, and read back by every later stage."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints.checkpoint import Card
from soups.core.errors import DataError, PartialFailure, UserError
from soups.core.labels import LabelSpace
from soups.core.metrics import all_scores, probabilities
from soups.core.progress import track
from soups.data.images.cache import Images
from soups.data.samples import evaluation_sets, set_rows
from soups.data.settings import CacheSettings
from soups.evaluation.logits import EvaluationSet, compute_logits, keep_logits, kept_logits, logits_path
from soups.evaluation.settings import EvaluationSettings
from soups.files.atomic import append_record
from soups.pipeline.run.images import encode, evaluation_set, image_paths
from soups.pipeline.run.model_files import load_model
from soups.pipeline.run.run import Run
from soups.runtime.devices import Runtime, limit_threads
from soups.runtime.launchers import LaunchSettings, launcher_of
from soups.runtime.workers import worker_number

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """Everything that scoring a model of a run needs; small enough to be sent to another process."""

    run: Run
    runtime: Runtime
    evaluation: EvaluationSettings
    cache: CacheSettings
    launch: LaunchSettings = field(default_factory=LaunchSettings)

    def labels(self, set_name: str, space: LabelSpace | None = None) -> np.ndarray:
        """(N,) int64 class indices of a set in the run's space, or another of its factors; -1 where there is no label.

        Raises:
            DataError: the run's table does not tell the factors of that space.
        """
        rows = set_rows(self.run.samples, set_name)
        return encode(self.run.labels_in(rows, space or self.run.space), space or self.run.space)

    def groups(self, set_name: str) -> np.ndarray:
        """(N,) text, the group of each image of a set."""
        return set_rows(self.run.samples, set_name)["group"].to_numpy(str)

    def labelled_sets(self) -> list[str]:
        """The sets that can be scored: `val`, `test` if its labels are known, and the shifts."""
        return [name for name in evaluation_sets(self.run.samples) if (self.labels(name) >= 0).all()]

    def probabilities(
        self, path: Path, set_names: Sequence[str], space: LabelSpace | None = None
    ) -> dict[str, np.ndarray]:
        """Set → (N, C) float64 probabilities of a model, in the order of the run's classes, or as `logits`."""
        return {name: probabilities(logits) for name, logits in self.logits(path, set_names, space).items()}

    def space_of(self, path: Path) -> LabelSpace:
        """The classes that a model tells apart: the run's, in its order, or other factors of the same labels.

        Raises:
            DataError: the model has classes of something else.
        """
        own, run = self.run.card_of(path).space, self.run
        if set(own.names) == set(run.space.names):
            return run.space
        joint = run.recorded.joint_space
        if joint is None or not own.factors or not set(own.factors) <= set(joint.factors):
            raise DataError(
                f"{path}: a model of another space than the data of run {run.name!r}",
                expected=str(joint or run.space),
                found=str(own),
                next_step="use models of this run's labels, or name the run that it belongs to: --name",
            )
        return own

    def logits(self, path: Path, set_names: Sequence[str], space: LabelSpace | None = None) -> dict[str, np.ndarray]:
        """Set → (N, C) float32 logits of a model, kept ones where there are any.

        Args:
            path: the model.
            set_names: sets of the run.
            space: the model's classes in the order that is wanted; None: the run's.

        Raises:
            DataError: the model has other classes, or an image cannot be read.
        """
        space = space or self.run.space
        places = {name: self._place(path, name) for name in set_names}
        kept = {name: self._kept(place, path, name, len(space)) for name, place in places.items()}
        missing = [name for name, logits in kept.items() if logits is None]
        fresh = self._compute(path, missing, space) if missing else {}
        for name, logits in fresh.items():
            keep_logits(places[name], logits)
        return {name: fresh[name] if name in fresh else kept[name] for name in set_names}  # type: ignore[misc]

    def _place(self, path: Path, set_name: str) -> Path:
        digest = self.run.sha256(path)
        paths = image_paths(set_rows(self.run.samples, set_name), self.run)
        return logits_path(self.run.folder / "logits", digest, set_name, paths, self.runtime)

    def _kept(self, place: Path, path: Path, set_name: str, classes: int) -> np.ndarray | None:
        return kept_logits(place, len(set_rows(self.run.samples, set_name)), classes)

    def _compute(self, path: Path, set_names: Sequence[str], space: LabelSpace) -> dict[str, np.ndarray]:
        limit_threads(self.runtime.threads)
        classifier, card = load_model(self.run, path)
        order = class_order(card, space, path, self.run.name)
        classifier.to(self.runtime.device)
        logits = {}
        shown = track(set_names, f"{path.stem}: scoring") if self.runtime.jobs == 1 else set_names
        for name in shown:
            images = self._images(name, card)
            values = compute_logits(
                classifier, images, card.preprocessing, self.runtime, self.evaluation.eval_batch_size
            )
            logits[name] = np.ascontiguousarray(values[:, order])
        return logits

    def _images(self, name: str, card: Card) -> Images:
        return self.set(name, card).images

    def set(self, name: str, card: Card) -> EvaluationSet:
        """A set's images at the geometry of a model."""
        return evaluation_set(name, set_rows(self.run.samples, name), self.run, card.preprocessing, self.cache)


def class_order(card: Card, space: LabelSpace, path: Path, run_name: str) -> np.ndarray:
    """Where each class is among a model's logits, (C,) int64.

    Raises:
        DataError: the model's classes are others.
    """
    if set(card.classes) != set(space.names):
        raise DataError(
            f"{path}: a model of other classes",
            expected=", ".join(space.names),
            found=", ".join(card.classes),
            next_step=f"use models that were trained on the classes of run {run_name!r}; models of some factors join "
            "others with --weighted-ensemble",
        )
    return np.array([card.classes.index(name) for name in space.names], dtype=np.int64)


def result_line(bench: Bench, model_name: str, scores: dict[str, dict[str, float]], **more: Any) -> dict[str, Any]:
    """A line of a results log: accuracies at the top level under the names of their sets, all metrics below."""
    accuracies = {name: values["accuracy"] for name, values in scores.items()}
    return {"model_name": model_name, **accuracies, "metrics": scores, "split": bench.run.fingerprints[1], **more}


def score_model(task: tuple[Bench, Path]) -> dict[str, Any]:
    """Score one model on every labelled set, keep its logits, and return its line for the log."""
    bench, path = task
    bench = replace(bench, runtime=bench.runtime.of_worker(worker_number()))
    names = evaluation_sets(bench.run.samples)
    given = bench.probabilities(path, names)  # Of an unlabelled test set too: the votes want them.
    scores = {name: all_scores(given[name], bench.labels(name)) for name in bench.labelled_sets()}
    return result_line(bench, path.stem, scores, sha256=bench.run.sha256(path))


def pool_paths(run: Run) -> dict[str, Path]:
    """Name → file of the fine-tunes of a run.

    Raises:
        DataError: there are none.
    """
    paths = {path.stem: path for path in run.finetunes()}
    if not paths:
        raise DataError(
            f"{run.models}: no fine-tunes of run {run.name!r}",
            expected=f"files such as {run.name}0_epochs10.safetensors",
            next_step=f"train some: python finetune.py --name {run.name} --i 0-11",
        )
    return paths


def evaluate_individuals(bench: Bench, with_start: bool = True) -> dict[str, dict[str, Any]]:
    """Score every fine-tune of the run (and its start) that the log does not know yet.

    Returns:
        Name of each fine-tune → its line in the log.

    Raises:
        PartialFailure: some models could not be scored; the others are logged.
    """
    run = bench.run
    models = pool_paths(run)
    wanted = {**models, run.start.stem: run.start} if with_start and run.start.exists() else models
    known = run.results(run.individual_results)
    missing = [path for name, path in wanted.items() if not _is_known(known.get(name), run, path)]
    failures = []
    tasks = [(bench, path) for path in missing]
    for (_, path), result in _spread(bench, tasks):
        if isinstance(result, UserError):
            failures.append(str(result))
        elif isinstance(result, Exception):
            raise result
        else:
            append_record(run.individual_results, result)
            logger.info("%s: %s", path.stem, accuracies_text(result))
    if failures and len(missing) > len(failures):
        problem = f"{len(failures)} of {len(missing)} models could not be scored\n  " + "\n  ".join(failures)
        raise PartialFailure(problem, next_step="mend or remove them and run the same command again")
    if failures:
        raise DataError("\n".join(failures))
    known = run.results(run.individual_results)
    return {name: known[name] for name in models}


def _spread(
    bench: Bench, tasks: Sequence[tuple[Bench, Path]]
) -> Iterator[tuple[tuple[Bench, Path], dict[str, Any] | Exception]]:
    """The lines of the models, as they are scored, wherever that is done."""
    launcher = launcher_of(bench.launch, bench.runtime)
    if not bench.launch.no_shared_storage:
        yield from launcher.run_all(score_model, tasks)
        return
    from soups.pipeline.score.transfer import fetched_scores

    yield from fetched_scores(launcher, bench, tasks)


def _is_known(line: dict[str, Any] | None, run: Run, path: Path) -> bool:
    return line is not None and line.get("sha256") == run.sha256(path)


def accuracies_text(line: dict[str, Any]) -> str:
    """Accuracies of a line of results, in words."""
    return ", ".join(f"{name} {100 * values['accuracy']:.1f}%" for name, values in line["metrics"].items())


def append_if_new(run: Run, line: dict[str, Any]) -> None:
    """Append a line on a soup or vote unless its last line says the same already."""
    if run.results(run.soup_results).get(line["model_name"]) != line:
        append_record(run.soup_results, line)
