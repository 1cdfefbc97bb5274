"""A run: its folder, its recorded settings, and the names of its models and logs."""

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.core.errors import DataError, UsageError
from soups.core.labels import SEPARATOR, LabelSpace
from soups.data.settings import DataSettings
from soups.files.file_hashes import hash_files
from soups.files.jsonl import read_records, truncate_torn_line
from soups.files.temp_files import remove_leftover_files
from soups.pipeline.run.foreign_pool import find_checkpoints
from soups.pipeline.run.run_settings import RecordedSettings, read_recorded
from soups.pipeline.settings.commands import CommandSettings, RunSettings
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
        from soups.data.samples import read_samples

        if self.table is not None:
            return self.table
        return read_samples(self.folder / "samples.csv")

    @cached_property
    def fingerprints(self) -> tuple[str, str]:
        """Fingerprints of the data and of the split."""
        from soups.data.samples import data_fingerprints

        return data_fingerprints(self.samples)

    @cached_property
    def space(self) -> LabelSpace:
        """The classes, in the order of the logits."""
        from soups.data.samples import label_space, target_space

        if self.classes is not None:
            return self.classes
        order = self.recorded.data.class_order
        declared = target_space(self.recorded.data, self.recorded.joint_space)
        if declared is None:
            return label_space(self.samples, order)
        return declared if order is None else LabelSpace(tuple(order), declared.factors)

    def labels_in(self, rows: "pd.DataFrame", space: LabelSpace) -> list[str]:
        """Returns the labels of rows as classes of a space: the run's, or other factors of the same labels.

        Args:
            rows: rows of the table.
            space: the classes.

        Returns:
            A class for each row, an empty text where there is no label.

        Raises:
            DataError: the table lacks the factors of that space.
        """
        if space.names == self.space.names:
            return list(rows["label"])
        missing = [name for name in space.factor_names if name not in rows]
        if missing or not space.factors:
            raise DataError(
                f"run {self.name!r}: its table has no column for {', '.join(missing or space.names)}",
                expected=", ".join(self.space.names),
            )
        levels = rows[list(space.factor_names)].itertuples(index=False, name=None)
        return [SEPARATOR.join(each) if all(each) else "" for each in levels]

    def sha256(self, checkpoint: Path) -> str:
        """Returns the hash of a checkpoint's bytes; computed again only if the file has changed.

        Raises:
            DataError: the file does not exist.
        """
        return self.hashes([checkpoint])[0]

    def hashes(self, checkpoints: Iterable[Path]) -> list[str]:
        """Returns the hashes of several checkpoints; computes unknown ones in parallel.

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
        found: dict[Path, Card] = {}
        if self.recorded.foreign is not None:
            members = find_checkpoints(Path(self.recorded.foreign.foreign_location))
            return {path: card or self.card_without_file for path, card in members.items() if self._is_selected(path)}
        for path in sorted(self.models.glob(f"{self.name}*_epochs*{SUFFIX}"), key=_index_key):
            card = read_card(path)
            if card is not None and card.kind == "fine-tune" and path.stem == self.finetune_name(card):
                found[path] = card
        return {path: card for path, card in found.items() if self._is_selected(path)}

    def _is_selected(self, path: Path) -> bool:
        return self.only is None or path.stem in self.only

    @cached_property
    def card_without_file(self) -> Card:
        """Card assumed for a checkpoint without one: of the foreign pool's network, else of the run's start.

        Raises:
            DataError: the run has no start.
        """
        foreign, recorded = self.recorded.foreign, self.recorded
        if foreign is not None:
            architecture, preprocessing = foreign.architecture, foreign.preprocessing
            classes = tuple(recorded.data.class_order or ())
        else:
            start = read_card(self.start)
            if start is None:
                raise DataError(f"{self.start}: has no card", expected="the start written by finetune.py")
            architecture, preprocessing, classes = start.architecture, start.preprocessing, self.space.names
        return Card(
            kind="fine-tune",
            architecture=architecture,
            classes=classes,
            factors=self.space.factor_levels,
            preprocessing=preprocessing,
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

    def state_path(self, index: int) -> Path:
        """Returns the path of the resumable state of a fine-tune."""
        return self.folder / "states" / f"{self.name}{index}.state"

    def training_log(self, index: int) -> Path:
        """Returns the path of a fine-tune's log, which has one line per epoch."""
        return self.folder / "logs" / "training" / f"{self.name}{index}.jsonl"

    def finetune_name(self, card: Card) -> str:
        """Returns the name of a fine-tune of this run, from its card."""
        return f"{self.name}{card.training['index']}_epochs{card.training['epochs']}"

    def results(self, path: Path) -> dict[str, dict[str, Any]]:
        """Returns model name → its last line in a results log, of lines with this run's split."""
        split = self.fingerprints[1]
        return {line["model_name"]: line for line in read_records(path) if line.get("split") == split}

    def runtime(self, settings: RuntimeSettings) -> Runtime:
        """Returns the runtime with the run's precision and threads and the present device."""
        return resolve(settings, precision=self.recorded.precision, threads=self.recorded.threads)


def _index_key(path: Path) -> tuple[int, str]:
    prefix = path.stem.rpartition("_epochs")[0]
    number = prefix[len(prefix.rstrip("0123456789")) :]
    return int(number or 0), path.name


def open_run(settings: CommandSettings, given: Collection[str], may_differ: Collection[str] = ()) -> Run:
    """Returns the run of a command.

    Args:
        settings: settings with the run's name; by default the run last trained.
        given: names of the settings that the user gave; their values must equal those recorded.
        may_differ: settings with another meaning in this command, which are not compared.

    Raises:
        UsageError: the run does not exist, or a given setting differs from the recorded one.
    """
    name = settings.run.name or latest_run(settings.run)
    folder = settings.run.runs_folder
    if name is None:
        raise UsageError(
            f"{folder}: no run yet",
            expected="a run created by finetune.py",
            next_step="train first: python finetune.py --data-location DIR",
        )
    run = require_run(settings.run, name)
    check_recorded(run, settings, set(given) - set(may_differ))
    return run


def remove_leftovers(run: Run) -> None:
    """Remove temporary files of killed processes and cut torn last lines off logs; called before a command writes.

    Opening a run only reads: readers of logs leave a torn last line out, and no reader opens a temporary file.
    """
    removed = remove_leftover_files(
        {run.folder, run.models, run.image_cache, cache_dir() / "hashes"}, run.folder.parent
    )
    if removed:
        logger.info("run %s: removed the temporary files of %d interrupted writes", run.name, removed)
    for log in sorted((run.folder / "logs").rglob("*.jsonl")):
        truncate_torn_line(log)


def warn_if_validation_flatters(run: Run) -> None:
    """Warn once per command if validation uses the training images."""
    if "val" in set(run.samples["split"]):
        return
    if run.recorded.foreign is None:
        logger.warning("no validation set: models are validated on their training images, which flatters the scores")
    else:
        logger.warning("no validation set: the scores flatter models that were trained on these images")


def latest_run(settings: RunSettings) -> str | None:
    """Returns the name of the run last trained, or None."""
    try:
        return (Path(settings.runs_folder) / "latest").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def known_runs(settings: RunSettings) -> list[str]:
    """Returns the names of all runs."""
    return sorted(path.parent.name for path in Path(settings.runs_folder).glob("*/settings.yaml"))


def existing_run(settings: RunSettings, name: str) -> Run | None:
    """Returns the run of this name, or None if it does not exist.

    Raises:
        DataError: its settings file is damaged.
    """
    folder = Path(settings.runs_folder) / name
    recorded = read_recorded(folder)
    if recorded is None:
        return None
    location = settings.model_location
    if recorded.foreign is None:
        return Run(folder, Path(location) if location else folder / "models", recorded)
    if location:  # The folder of the checkpoints may have moved; soups are never written into it.
        foreign = recorded.foreign.model_copy(update={"foreign_location": location})
        recorded = recorded.model_copy(update={"foreign": foreign})
    return Run(folder, folder / "models", recorded)


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


def check_recorded(run: Run, settings: CommandSettings, given: Collection[str]) -> None:
    """Raise an error if a setting that the user gave differs from the recorded one.

    Raises:
        UsageError: the message names the first difference.
    """
    recorded = run.recorded.flat()
    data = _resolve_given_data(run, settings, given)
    requested = {**data.model_dump(mode="json"), **settings.model.model_dump(mode="json")}
    requested |= {"threads": settings.runtime.threads, "precision": settings.runtime.precision}
    if requested["precision"] == "auto":
        del requested["precision"]
    for key in sorted(set(given) & set(requested)):
        if not _equal_values(requested[key], recorded[key]):
            raise UsageError(
                f"--{key.replace('_', '-')}: run {run.name!r} was made with another value",
                expected=repr(recorded[key]),
                found=repr(requested[key]),
                next_step="leave it out, or start a new run with another --name",
            )


def _resolve_given_data(run: Run, settings: CommandSettings, given: Collection[str]) -> DataSettings:
    """Returns the data settings in the form of the record: several of its folders can name one data set."""
    from soups.data.layouts.locate import resolve_locations

    named = {key: getattr(settings.data, key) for key in DataSettings.model_fields if key in given}
    if not named.keys() & {"data_location", "layout", "age_bands"}:
        return settings.data
    return resolve_locations(run.recorded.data.model_copy(update=named))


def _equal_values(wanted: Any, recorded: Any) -> bool:
    if isinstance(wanted, list) and isinstance(recorded, list):
        return len(wanted) == len(recorded) and all(map(_equal_values, wanted, recorded))
    if isinstance(wanted, str) and isinstance(recorded, str):
        return wanted == recorded or Path(wanted).resolve() == Path(recorded).resolve()
    return wanted == recorded
