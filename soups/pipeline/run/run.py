"""A run: its folder, its recorded settings, and the names of its models and logs."""

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.data.samples import data_fingerprints, label_space, read_samples, target_space
from soups.files.file_hashes import hash_files
from soups.files.jsonl import read_records, truncate_torn_line
from soups.files.temp_files import remove_leftover_files
from soups.pipeline.run.foreign_pool import find_checkpoints
from soups.pipeline.run.run_settings import RecordedSettings, read_recorded
from soups.pipeline.settings.commands import RunSettings
from soups.runtime.devices import Runtime, RuntimeSettings, cache_dir, resolve

if TYPE_CHECKING:
    import pandas as pd

    from soups.models.foreign.state_dict import ExpectedTensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """The folder of a run and its recorded settings."""

    folder: Path
    models: Path
    recorded: RecordedSettings
    table: "pd.DataFrame | None" = None
    """Samples to use instead of the recorded ones (another test set)."""
    classes: LabelSpace | None = None
    """The classes; needed if `table` may lack some of them (a part of a test set)."""
    only: frozenset[str] | None = None
    """Names of the fine-tunes to use; None: all."""

    @property
    def name(self) -> str:
        """The run's name, which is the prefix of its models' names."""
        return self.folder.name

    @property
    def start(self) -> Path:
        """The common start of the pool."""
        return self.models / f"{self.name}_start{SUFFIX}"

    @property
    def individual_results(self) -> Path:
        """The log with one line per model."""
        return self.folder / "logs" / "individual_results.jsonl"

    @property
    def soup_results(self) -> Path:
        """The log with one line per soup or vote."""
        return self.folder / "logs" / "soup_results.jsonl"

    @property
    def image_cache(self) -> Path:
        """The folder of decoded images, common to all runs."""
        return cache_dir() / "images"

    @cached_property
    def samples(self) -> "pd.DataFrame":
        """The table of all images of the run."""
        return read_samples(self.folder / "samples.csv") if self.table is None else self.table

    @cached_property
    def fingerprints(self) -> tuple[str, str]:
        """Fingerprints of the data and of the split."""
        return data_fingerprints(self.samples)

    @cached_property
    def space(self) -> LabelSpace:
        """The classes, in the order of the logits."""
        if self.classes is not None:
            return self.classes
        order = self.recorded.data.class_order
        declared = target_space(self.recorded.data, self.recorded.joint_space)
        if declared is None:
            return label_space(self.samples, order)
        return declared if order is None else LabelSpace(tuple(order), declared.factors)

    def sha256(self, checkpoint: Path) -> str:
        """Returns the hash of a checkpoint's bytes; see `hashes`."""
        return self.hashes([checkpoint])[0]

    def hashes(self, checkpoints: Iterable[Path]) -> list[str]:
        """Returns the hashes of checkpoints' bytes; computes those of new and changed files, in parallel.

        Raises:
            DataError: a file does not exist.
        """
        paths = list(checkpoints)
        for path in paths:
            if not path.is_file():
                raise DataError(f"{path}: no such file", expected="a checkpoint")
        return hash_files(paths, cache_dir() / "hashes")

    def soup_path(self, recipe: str) -> Path:
        """Returns the path of a recipe's soup."""
        return self.models / f"{self.name}_{recipe}_soup{SUFFIX}"

    def finetunes(self) -> dict[Path, Card]:
        """Returns the existing fine-tunes with their cards, ordered by index; those of a foreign pool, ordered by name.

        Raises:
            DataError: a foreign pool has no checkpoint, or two with one name.
        """
        if self.recorded.foreign is not None:
            members = find_checkpoints(Path(self.recorded.foreign.foreign_location))
            found = [(path, card or self.card_without_file) for path, card in members.items()]
        else:
            named, others = self._named_as_finetunes(), self.of_other_splits()
            own = [(path, card) for path, card in named if path not in others]
            found = sorted(own, key=lambda each: (each[1].training["index"], each[0].name))
        return {path: card for path, card in found if self.only is None or path.stem in self.only}

    def _named_as_finetunes(self) -> list[tuple[Path, Card]]:
        cards = ((path, read_card(path)) for path in self.models.glob(f"{self.name}*_epochs*{SUFFIX}"))
        own = [(path, card) for path, card in cards if card is not None and card.kind == "fine-tune"]
        return [(path, card) for path, card in own if path.stem == self.finetune_name(card)]

    @cached_property
    def _split(self) -> str:
        """Fingerprint of the recorded split; `fingerprints` are of `table`, which may have other test images."""
        start = read_card(self.start) if self.start.is_file() else None
        return start.split if start is not None else self.fingerprints[1]

    def of_other_splits(self) -> list[Path]:
        """Returns files that are named as fine-tunes of this run, but were trained on another split."""
        return [path for path, card in self._named_as_finetunes() if card.split and not self.has_split(card)]

    def has_split(self, card: Card) -> bool:
        """Returns whether a model was trained on the split of this run; a file in the run's folder need not be."""
        return card.split == self._split

    @cached_property
    def card_without_file(self) -> Card:
        """Card assumed for a checkpoint without one: of the foreign pool's network, else of the run's start.

        Raises:
            DataError: the run has no start.
        """
        recorded, foreign = self.recorded, self.recorded.foreign
        source = read_card(self.start) if foreign is None else foreign
        if source is None:
            raise DataError(f"{self.start}: has no card", expected="the start written by finetune.py")
        return Card(
            kind="fine-tune",
            architecture=source.architecture,
            preprocessing=source.preprocessing,
            classes=self.space.names if foreign is None else tuple(recorded.data.class_order or ()),
            factors=self.space.factor_levels,
            training={"precision": recorded.precision, "threads": recorded.threads},
        )

    @cached_property
    def network(self) -> "ExpectedTensors":
        """Tensors expected in a checkpoint without a card."""
        from soups.models.foreign.state_dict import expected_tensors

        return expected_tensors(self.card_without_file.architecture)

    def card_of(self, path: Path) -> Card:
        """Returns the card of a model of the run, or the assumed one if its file has none."""
        return (read_card(path) if path.suffix == SUFFIX else None) or self.card_without_file

    def model_name(self, index: int) -> str:
        """Returns the short name of a fine-tune: `digits3`, or `photos-2_i3` where the run's name ends in a digit."""
        return f"{self.name}{self.recorded.index_prefix}{index}"

    def state_path(self, index: int) -> Path:
        """Returns the path of the resumable state of a fine-tune."""
        return self.folder / "states" / f"{self.model_name(index)}.state"

    def training_log(self, index: int) -> Path:
        """Returns the path of a fine-tune's log, which has one line per epoch."""
        return self.folder / "logs" / "training" / f"{self.model_name(index)}.jsonl"

    def finetune_name(self, card: Card) -> str:
        """Returns the name of a fine-tune of this run, from its card."""
        return f"{self.model_name(card.training['index'])}_epochs{card.training['epochs']}"

    def results(self, path: Path) -> dict[str, dict[str, Any]]:
        """Returns model name → its last line in a results log, of lines with this run's split."""
        split = self.fingerprints[1]
        return {line["model_name"]: line for line in read_records(path) if line.get("split") == split}

    def runtime(self, settings: RuntimeSettings) -> Runtime:
        """Returns the runtime with the run's precision and threads and the present device."""
        return resolve(settings, precision=self.recorded.precision, threads=self.recorded.threads)


def remove_leftovers(run: Run) -> None:
    """Remove temporary files of killed processes and cut torn last lines off logs; called before a command writes.

    Opening a run only reads: readers of logs leave a torn last line out, and no reader opens a temporary file.
    """
    folders = {run.folder, run.models, run.image_cache, cache_dir() / "hashes"}
    if removed := remove_leftover_files(folders, run.folder.parent):
        logger.info("run %s: removed the temporary files of %d interrupted writes", run.name, removed)
    for log in sorted((run.folder / "logs").rglob("*.jsonl")):
        truncate_torn_line(log)


def warn_if_validation_flatters(run: Run) -> None:
    """Warn once per command if validation uses the training images, of the run or of a model copied into it."""
    with suppress(DataError):  # Reading a damaged file reports it.
        for path in run.of_other_splits():
            message = "%s: was trained on another split than run %s, so it is none of its models"
            logger.warning(message, path, run.name)
    if "val" in set(run.samples["split"]):
        return
    own = "models are validated on their training images, which flatters the scores"
    foreign = "the scores flatter models that were trained on these images"
    logger.warning("no validation set: %s", own if run.recorded.foreign is None else foreign)


def latest_run(settings: RunSettings) -> str | None:
    """Returns the name of the run last trained, or None."""
    try:
        return (Path(settings.runs_folder) / "latest").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def known_runs(settings: RunSettings) -> list[str]:
    """Returns the names of all runs."""
    return sorted(path.parent.name for path in Path(settings.runs_folder).glob("*/settings.yaml"))


def existing_run(settings: RunSettings, name: str | None) -> Run | None:
    """Returns the run of this name, or None if it does not exist or there is no name.

    Raises:
        DataError: its settings file is damaged.
    """
    folder = Path(settings.runs_folder) / (name or "")
    recorded = read_recorded(folder) if name is not None else None
    if recorded is None:
        return None
    models, location = folder / "models", settings.model_location
    if location and recorded.foreign is None:
        models = Path(location)
    elif location and recorded.foreign:  # The checkpoints may have moved; soups are never written into their folder.
        foreign = recorded.foreign.model_copy(update={"foreign_location": location})
        recorded = recorded.model_copy(update={"foreign": foreign})
    return Run(folder, models, recorded)


def require_run(settings: RunSettings, name: str) -> Run:
    """Returns the run of this name.

    Raises:
        UsageError: the run does not exist.
        DataError: its settings file is damaged.
    """
    run = existing_run(settings, name)
    if run is None:
        raise UsageError(
            f"{settings.runs_folder}/{name}: no such run",
            expected=f"one of the runs: {', '.join(known_runs(settings)) or 'none'}",
            next_step=f"train it first: python finetune.py --name {name} --data-location DIR",
        )
    return run


def slug(text: str, default: str) -> str:
    """Returns a text as a run's name: other characters become hyphens; `default` if nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or default
