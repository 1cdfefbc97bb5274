"""The run of a command, with the settings that scoring its models needs."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from soups.checkpoints.card import Card
from soups.core.errors import DataError, unknown_name
from soups.core.labels import LabelSpace
from soups.core.metrics import METRICS
from soups.core.progress import track
from soups.core.scores import softmax
from soups.data.images.cache import Images
from soups.data.samples import evaluation_sets, set_rows
from soups.data.settings import CacheSettings
from soups.evaluation.logits import EvaluationSet, compute_logits, logits_path, read_logits, store_logits
from soups.evaluation.settings import EvaluationSettings
from soups.pipeline.run.images import encode_labels, evaluation_set, image_paths
from soups.pipeline.run.model_files import load_model, read_model
from soups.pipeline.run.open_run import open_run
from soups.pipeline.run.run import Run, warn_if_validation_flatters
from soups.pipeline.settings.commands import CommandSettings, PoolSettings
from soups.runtime.devices import Runtime, limit_threads
from soups.runtime.launchers import LaunchSettings, require_launcher
from soups.weights.state_dict import check_finite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """A run with everything that scoring its models needs; small enough to send to another process."""

    run: Run
    runtime: Runtime
    evaluation: EvaluationSettings
    cache: CacheSettings
    launch: LaunchSettings = field(default_factory=LaunchSettings)

    def labels(self, set_name: str, space: LabelSpace | None = None) -> np.ndarray:
        """Returns (N,) int64 class indices of a set, in the run's classes or `space`; -1 for unlabelled images.

        Raises:
            DataError: the run's table lacks the factors of that space.
        """
        return encode_labels(set_rows(self.run.samples, set_name), self.run, space)

    def groups(self, set_name: str) -> np.ndarray:
        """Returns (N,) text, the group of each image of a set."""
        return set_rows(self.run.samples, set_name)["group"].to_numpy(str)

    def labelled_sets(self) -> list[str]:
        """Returns the sets that can be scored: `val`, `test` if its labels are known, and the shifts."""
        return [name for name in evaluation_sets(self.run.samples) if (self.labels(name) >= 0).all()]

    def probabilities(
        self, path: Path, set_names: Sequence[str], space: LabelSpace | None = None
    ) -> dict[str, np.ndarray]:
        """Returns set → (N, C) float64 probabilities of a model; arguments and class order as in `logits`.

        Raises:
            DataError: as `logits`, or a logit is not finite; the message names the model and a tensor that is not.
        """
        logits = self.logits(path, set_names, space)
        try:
            return {name: softmax(table) for name, table in logits.items()}
        except DataError as error:
            check_finite(read_model(self.run, path), str(path))
            problem = f"{path}: {error.problem}"
            raise DataError(problem, expected=error.expected, found=error.found, next_step=error.next_step) from error

    def space_of(self, path: Path) -> LabelSpace:
        """Returns the classes of a model: the run's, in its order, or other factors of the same labels.

        Raises:
            DataError: the model has other classes.
        """
        own, run = self.run.card_of(path).space, self.run
        if set(own.names) == set(run.space.names):
            return run.space
        joint = run.recorded.joint_space
        if joint is None or not own.factors or not set(own.factors) <= set(joint.factors):
            raise DataError(
                f"{path}: a model of other classes than the data of run {run.name!r}",
                expected=str(joint or run.space),
                found=str(own),
                next_step="use models of this run's labels, or add --name NAME of the run that it belongs to",
            )
        return own

    def logits(self, path: Path, set_names: Sequence[str], space: LabelSpace | None = None) -> dict[str, np.ndarray]:
        """Returns set → (N, C) float32 logits of a model; stored logits are reused.

        Args:
            path: the model.
            set_names: sets of the run.
            space: the model's classes in the requested order; None: the run's.

        Raises:
            DataError: the model has other classes, or an image cannot be read.
        """
        space = space or self.run.space
        paths = {name: self._logits_path(path, name) for name in set_names}
        stored = {name: self._read_stored(file, path, name, len(space)) for name, file in paths.items()}
        missing = [name for name, logits in stored.items() if logits is None]
        fresh = self._compute_logits(path, missing, space) if missing else {}
        for name, logits in fresh.items():
            store_logits(paths[name], logits)
        return {**stored, **fresh}  # type: ignore[dict-item]

    def _logits_path(self, path: Path, set_name: str) -> Path:
        paths = image_paths(set_rows(self.run.samples, set_name), self.run)
        return logits_path(self.run.folder / "logits", self.run.sha256(path), set_name, paths, self.runtime)

    def _read_stored(self, file: Path, path: Path, set_name: str, classes: int) -> np.ndarray | None:
        return read_logits(file, len(set_rows(self.run.samples, set_name)), classes)

    def _compute_logits(self, path: Path, set_names: Sequence[str], space: LabelSpace) -> dict[str, np.ndarray]:
        limit_threads(self.runtime.threads)
        classifier, card = load_model(self.run, path)
        order = class_positions(card, space, path, self.run.name)
        classifier.to(self.runtime.device)
        logits, batch_size = {}, self.evaluation.eval_batch_size
        for name in track(set_names, f"{path.stem}: scoring") if self.runtime.jobs == 1 else set_names:
            images = self._open_images(name, card)
            values = compute_logits(classifier, images, card.preprocessing, self.runtime, batch_size)
            logits[name] = np.ascontiguousarray(values[:, order])
        return logits

    def _open_images(self, set_name: str, card: Card) -> Images:
        return self.open_set(set_name, card).images

    def open_set(self, name: str, card: Card) -> EvaluationSet:
        """Returns a set's images at the geometry of a model."""
        return evaluation_set(name, set_rows(self.run.samples, name), self.run, card.preprocessing, self.cache)


def class_positions(card: Card, space: LabelSpace, path: Path, run_name: str) -> np.ndarray:
    """Returns (C,) int64, the position of each class among a model's logits.

    Raises:
        DataError: the model has other classes.
    """
    if set(card.classes) != set(space.names):
        raise DataError(
            f"{path}: a model of other classes",
            expected=", ".join(space.names),
            found=", ".join(card.classes),
            next_step=f"use models trained on the classes of run {run_name!r}; --weighted-ensemble also combines "
            "models of some factors",
        )
    return np.array([card.classes.index(name) for name in space.names], dtype=np.int64)


def open_context(
    settings: CommandSettings, given: Collection[str], may_differ: Collection[str] = (), *, scoring: bool = True
) -> RunContext:
    """Returns the run of a command with everything that scoring its models needs.

    Args:
        settings: settings of the command.
        given: names of the settings that the user gave.
        may_differ: settings with another meaning in this command.
        scoring: models will be scored: warn if validation uses training images. False: the samples table is not
            read.

    Raises:
        UsageError: no such run, a setting that differs from the recorded one, or an unknown metric or launcher.
    """
    run = open_run(settings, given, may_differ)
    if scoring:
        warn_if_validation_flatters(run)
    metric = settings.evaluation.metric if "metric" in given else run.recorded.metric
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    evaluation = EvaluationSettings.model_validate({**settings.evaluation.model_dump(), "metric": metric})
    launch = settings.launch if isinstance(settings, PoolSettings) else LaunchSettings()
    require_launcher(launch)
    return RunContext(run, run.runtime(settings.runtime), evaluation, settings.cache, launch)
