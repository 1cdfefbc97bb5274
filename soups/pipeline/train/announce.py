"""Gathers what a command is going to train and with which data, for the block that it prints first."""

from collections.abc import Sequence
from itertools import chain

from soups.checkpoints.card import read_card
from soups.core.notes import Note
from soups.data.samples import evaluation_sets, set_rows
from soups.data.settings import DataSettings
from soups.models.build import describe
from soups.models.settings import is_random
from soups.pipeline.run.data_notes import FILE, read_notes
from soups.pipeline.run.run import Run
from soups.pipeline.train.plan import Task
from soups.report.announcement import Announcement, format_announcement
from soups.report.pool import hyperparameters_of
from soups.runtime.devices import Runtime
from soups.training.settings import RandomRanges, TrainingSettings

NOTICES = ("soups.core.notes", "soups.data", "soups.models", "soups.pipeline.run")
"""Loggers of what is decided before the training begins; the block repeats it in order."""
_ORDER = ("read as", "left out", "changed", "warning")
_LINES = 8
"""Notes of one kind in the block."""
_SHOWN_ELSEWHERE = {"lr", "wd", "epochs", "augmentation", "aug", "mix", "smoothing", "hparams", "batch_size"}


def announcement(
    run: Run, runtime: Runtime, tasks: Sequence[Task], notes: Sequence[Note], planned: str | None = None
) -> str:
    """Returns the block of text about a run and the fine-tunes that will be trained.

    Args:
        run: recorded or planned.
        runtime: of the command.
        tasks: the fine-tunes to train.
        notes: what was noticed while the command began, besides the notes that the run has stored.
        planned: what is to be trained, if not these fine-tunes.
    """
    data, samples = run.recorded.data, run.samples
    counts = {
        split: set_rows(samples, split)["label"].value_counts().to_dict()
        for split in dict.fromkeys(["train", *evaluation_sets(samples)])
        if (samples["split"] == split).any()
    }
    classes: dict[str, dict[str, int]] = {name: {} for name in run.space.names}
    for split, labels in counts.items():
        for name in classes if "" not in labels else ():
            classes[name][split] = labels.get(name, 0)
    all_notes = dict.fromkeys([*read_notes(run.folder), *notes])
    lines = {kind: _lines_of(kind, [note.text for note in all_notes if note.kind == kind]) for kind in _ORDER}
    training = [("start", _start_text(run)), ("runs on", _runtime_text(runtime))]
    return format_announcement(
        Announcement(
            f"run {run.name} in {run.folder}: {planned or len(tasks)} to train, {len(run.finetunes())} finished",
            [
                ("data", f"{', '.join(data.locations)}: {_layout_text(data)}"),
                *chain.from_iterable(lines[kind] for kind in _ORDER if kind != "warning"),
                ("groups", _groups_text(run)),
            ],
            training + ([("settings", _settings_text(tasks[0].training))] if tasks else []),
            lines["warning"] + [("warning", text) for text in _doubts(run, tasks)],
            classes,
            {split: sum(labels.values()) for split, labels in counts.items()},
            {task.name: hyperparameters_of(task.training.model_dump()) for task in tasks},
        )
    )


def _lines_of(kind: str, texts: list[str]) -> list[tuple[str, str]]:
    more = [f"… and {len(texts) - _LINES} more in {FILE} of the run"] if len(texts) > _LINES else []
    return [(kind, text) for text in [*texts[:_LINES], *more]]


def _layout_text(data: DataSettings) -> str:
    if data.layout == "folder":
        return "layout folder, the folder of an image is its class"
    return f"layout {data.layout}" + (f", labels in {data.labels}" if data.labels is not None else "")


def _groups_text(run: Run) -> str:
    samples = run.samples
    if (samples["group"] == samples["image"]).all():
        return "each image is a group by itself"
    counts = samples.groupby("split")["group"].nunique()
    order = [name for name in ("train", *evaluation_sets(samples)) if name in counts]
    return ", ".join(f"{name} {counts[name]:,}" for name in order) + "; no group is in two of train and val"


def _start_text(run: Run) -> str:
    model, card = run.recorded.model, read_card(run.start) if run.start.exists() else None
    size = (card.preprocessing if card is not None else describe(model)[1]).size
    weights = "random weights" if is_random(model) else f"weights {model.pretrained or 'as published'}"
    return f"{model.model}, {weights}, images of {size} × {size} pixels"


def _runtime_text(runtime: Runtime) -> str:
    threads, jobs = (
        f"{number} {word}{'s' * (number != 1)}" for number, word in ((runtime.threads, "thread"), (runtime.jobs, "job"))
    )
    return f"{runtime.device}, {runtime.precision}, {jobs} of {threads}"


def _settings_text(training: TrainingSettings) -> str:
    """Returns the settings that all fine-tunes share and that differ from the defaults, without hyperparameters."""
    defaults = TrainingSettings()
    other = {
        name: value for name, value in training if name not in _SHOWN_ELSEWHERE and value != getattr(defaults, name)
    }
    texts = [f"{name} {' '.join(value) if isinstance(value, tuple) else value}" for name, value in other.items()]
    return ", ".join([f"batch_size {training.batch_size}", f"hparams {training.hparams}", *texts])


def _doubts(run: Run, tasks: Sequence[Task]) -> list[str]:
    """Returns warnings about settings that cannot work."""
    highest = max((task.training.lr for task in tasks), default=1.0)
    trains_random = is_random(run.recorded.model) and any(task.training.start_from is None for task in tasks)
    if not trains_random or highest > RandomRanges().lr_range[1]:
        return []
    flag = "--lr-range 3e-4 3e-3" if tasks[0].training.hparams == "random" else "--lr 1e-3"
    return [
        f"the weights are random, but lr is at most {highest:.3g}, as for published weights: the model will hardly "
        f"learn; try {flag}, or a --model with published weights"
    ]
