"""The log of a fine-tune's epochs: its lines as JSON and as text."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soups.core.errors import TrainingDiverged, UserError
from soups.files.atomic import fingerprint, make_folder
from soups.files.jsonl import append_record, read_records
from soups.pipeline.train.plan import Task
from soups.report.figures.learning_curves import drop_superseded

_TAIL_LINES = 3
"""Log lines shown for a failed fine-tune."""


class EpochLog:
    """The log of a fine-tune's epochs. Skips epochs that are already logged with equal values."""

    def __init__(self, path: Path, settings: str) -> None:
        self._path, self._settings = path, settings
        self._lines = [line for line in read_records(path) if line.get("settings") == settings]

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Touch the file, so that a fine-tune in progress has a log; it goes if the first epoch ends with a mistake."""
        make_folder(self._path.parent)
        self._path.touch()
        try:
            yield
        except UserError as error:
            if not isinstance(error, TrainingDiverged) and not self._path.stat().st_size:
                self._path.unlink()
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Write an epoch's line unless it is logged already."""
        line = {"settings": self._settings, **record}
        if any(_without_speed(other) == _without_speed(line) for other in drop_superseded(self._lines)):
            return
        append_record(self._path, line)
        self._lines.append(line)


def _without_speed(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "images_per_second"}


def tail_of_log(task: Task) -> str:
    """Returns the last lines of a failed fine-tune's log, for the error message."""
    log, key = task.open_run().training_log(task.index), fingerprint(task.record)
    lines = [line for line in read_records(log) if line.get("settings") == key][-_TAIL_LINES:]
    if not lines:
        return ""
    tail = "".join(f"\n      {format_epoch(task, line)}" for line in lines)
    return f"\n    the last lines of {log}:{tail}"


def format_epoch(task: Task, line: dict[str, Any]) -> str:
    """Returns an epoch's line as text."""
    metric = task.settings.evaluation.metric
    text = f"{task.name}: epoch {line['epoch']} of {task.epochs}, loss {line['loss']:.4f}"
    if "val" in line:
        text += f", validation accuracy {100 * line['val']['accuracy']:.1f}%"
        text += f", {metric.replace('_', ' ')} {line['val'][metric]:.4f}" if metric != "accuracy" else ""
    return f"{text}, {line['images_per_second']:.0f} images/s"
