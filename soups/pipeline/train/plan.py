"""Plans the fine-tunes to train: requested and not finished."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soups.checkpoints.card import Card
from soups.core.errors import RecordedOtherwise, UsageError, as_typed
from soups.pipeline.run.run import Run, require_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.runtime.devices import Runtime
from soups.training.hyperparameters import hyperparameters
from soups.training.schedule import PLATEAU
from soups.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

# These settings decide which hyperparameters a model gets or what is logged, not its weights. `old_aug` is already
# written in full.
_WITHOUT_EFFECT = {"hparams", "validate_every", "old_aug"}
# A card records where and how a model was trained, but a pool may be trained on one machine and used on another.
_DESCRIPTIVE_FIELDS = {"device", "deterministic", "micro_batch_size", "processes", "sharded"}


@dataclass(frozen=True)
class Task:
    """One fine-tune, as it is sent to a process."""

    index: int
    training: TrainingSettings
    settings: FinetuneSettings
    run_name: str
    runtime: Runtime
    replaces: Path | None = None
    waits: bool = True
    """Whether to wait for another process that trains the same fine-tune; else that is an error."""
    index_prefix: str = ""
    """As the run recorded it."""
    is_first: bool = False
    """Whether it is the first one of the command, which warns if the start seems to be at chance level."""
    quiet: bool = False
    """Whether only warnings are logged, because a live line shows the progress of all fine-tunes."""

    @property
    def name(self) -> str:
        """The prefix of the names of its files."""
        return f"{self.run_name}{self.index_prefix}{self.index}"

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return self.training.epochs + self.training.lp_epochs

    @property
    def record(self) -> dict[str, Any]:
        """A card's `training` fields: every setting that the weights depend on."""
        uses_metric = self.training.patience is not None or self.training.scheduler == PLATEAU
        return {
            "index": self.index,
            **self.training.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
            "cache_size": self.settings.cache.cache_size,
            "metric": self.settings.evaluation.metric if uses_metric else None,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
        }

    def open_run(self) -> Run:
        """Returns the run of this fine-tune.

        Raises:
            UsageError: the run does not exist.
        """
        return require_run(self.settings.run, self.run_name)


def parse_indices(text: str, flag: str = "--i") -> list[int]:
    """Returns the indices in `3`, `0-11`, `0,4,7` or a mixture, each once, in order.

    Args:
        text: the flag's value.
        flag: name of the flag, for messages.

    Raises:
        UsageError: the text is not a list of indices.
    """
    indices: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UsageError(
                f"{flag}: invalid indices", expected="a number, a range or a list: 3, 0-11 or 0,4,7", found=repr(text)
            )
        indices |= dict.fromkeys(range(first, last + 1))
    return list(indices)


def plan(run: Run, settings: FinetuneSettings, runtime: Runtime, indices: Sequence[int] | None) -> list[Task]:
    """Returns the requested fine-tunes that are not finished.

    Raises:
        UsageError: a requested index exists with other settings.
    """
    finished = {card.training["index"]: (path, card) for path, card in run.finetunes().items()}
    if indices is None:
        indices = [_find_index(run, settings, runtime, finished)]
    tasks = []
    for index in indices:
        task = _make_task(run, settings, runtime, index)
        if task is None:
            logger.info("%s: this entry is the start itself; not trained", run.model_name(index))
            continue
        if index in finished:
            path, card = finished[index]
            differences = _differences(card, task)
            if not differences:
                logger.info("%s: finished already", path)
                run.state_path(index).unlink(missing_ok=True)  # The process was killed just after it wrote the model.
                continue
            if not settings.overwrite:
                flags = {f"--{key.replace('_', '-')}": values for key, values in differences.items()}
                raise RecordedOtherwise(
                    f"{path}: was trained with other settings",
                    expected=", ".join(f"{flag} {as_typed(found)}" for flag, (found, _) in flags.items()),
                    found=", ".join(f"{flag} {as_typed(requested)}" for flag, (_, requested) in flags.items()),
                    next_step="choose another --i, leave --i out for the next free one, or add --overwrite",
                )
            task = replace(task, replaces=path)
        tasks.append(task)
    return tasks


def _make_task(run: Run, settings: FinetuneSettings, runtime: Runtime, index: int) -> Task | None:
    """Returns a fine-tune by its index; None if the index stands for the start itself."""
    training = hyperparameters(settings.training, settings.ranges, index)
    prefix = run.recorded.index_prefix
    return None if training is None else Task(index, training, settings, run.name, runtime, index_prefix=prefix)


def _find_index(run: Run, settings: FinetuneSettings, runtime: Runtime, finished: dict[int, tuple[Path, Card]]) -> int:
    """Returns the index that already has these settings, else the next free one."""
    for index, (_, card) in finished.items():
        task = _make_task(run, settings, runtime, index)
        if task is not None and not _differences(card, task):
            return index
    return next(index for index in range(len(finished) + 1) if index not in finished)


def requested_settings(card: Card) -> dict[str, Any]:
    """Returns a card's `training` fields without those that describe where and how the model was trained."""
    return {key: value for key, value in card.training.items() if key not in _DESCRIPTIVE_FIELDS}


def _differences(card: Card, task: Task) -> dict[str, tuple[Any, Any]]:
    """Returns setting → (value in the card, requested value), where they differ."""
    # A setting that a card lacks had its default value.
    fields = TrainingSettings.model_fields.items()
    defaults = {name: field.default for name, field in fields if name not in _WITHOUT_EFFECT}
    requested, found = {**defaults, **task.record}, {**defaults, **requested_settings(card)}
    keys = sorted(requested.keys() | found.keys())
    return {key: (found.get(key), requested.get(key)) for key in keys if found.get(key) != requested.get(key)}
