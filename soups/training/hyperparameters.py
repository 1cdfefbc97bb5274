"""Which hyperparameters fine-tune i has: the flags, a row drawn at random, or an entry of a file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from soups.core.errors import DataError, UsageError, unknown_name
from soups.data.augment import rand_augment, transforms
from soups.data.augment.augment import FLIP, find_augmentation
from soups.training.losses import LOSSES
from soups.training.schedule import DECAYING, SCHEDULES
from soups.training.settings import RandomRanges, TrainingSettings

USUAL_SMOOTHING = 0.1
"""Of LabelSmoothingLoss, where --smoothing says nothing (Szegedy et al., arXiv:1512.00567, section 7)."""
_DRAWN = ("lr", "wd", "epochs", "aug", "mix", "smoothing")
_STREAM = 1  # Keeps the draw of the hyperparameters apart from the other uses of (random seed, index).


def hyperparameters(settings: TrainingSettings, ranges: RandomRanges, index: int) -> TrainingSettings | None:
    """The settings of fine-tune `index`, or None where a file's entry is the start itself (it has no `lr`).

    Raises:
        UsageError: `--hparams` is neither a word that is known nor a file, or an unknown loss or augmentation.
        DataError: the file is damaged, lacks the entry or gives a value that makes no sense.
    """
    settings = canonicalize(settings)
    chosen = _chosen(settings, ranges, index)
    if chosen is not None and chosen.augmentation == "none" and chosen.aug is not None:
        return chosen.model_copy(update={"aug": None})  # One that was drawn.
    return chosen


def canonicalize(settings: TrainingSettings) -> TrainingSettings:
    """The settings with short forms written in full, so that equal work has equal settings.

    `old_aug` becomes what it is short for, an augmentation's file its content, and defaults that hang on other settings
    are filled in.

    Raises:
        UsageError: an unknown loss, scheduler or augmentation, a file that is none, or a decay that no scheduler uses.
    """
    if settings.loss_fn not in LOSSES:
        raise unknown_name("loss", settings.loss_fn, LOSSES)
    if settings.scheduler not in SCHEDULES:
        raise unknown_name("scheduler", settings.scheduler, SCHEDULES)
    _refuse_idle_decay(settings)
    changes: dict[str, Any] = {"augmentation": _in_full(settings.augmentation)}
    if settings.old_aug:
        changes |= {"old_aug": False, "oversample": ("age=old=2",), "oversample_augment": FLIP}
    elif settings.oversample_augment not in ("same", FLIP):
        changes["oversample_augment"] = _in_full(settings.oversample_augment)
    if settings.loss_fn == "LabelSmoothingLoss" and settings.smoothing == 0:
        changes["smoothing"] = USUAL_SMOOTHING
    if settings.augmentation == "randaugment" and settings.aug is None and settings.hparams == "fixed":
        changes["aug"] = rand_augment.DEFAULT_RAND_AUGMENT
    return settings.model_copy(update=changes)


def _refuse_idle_decay(settings: TrainingSettings) -> None:
    for name in ("decay_epochs", "decay_rate"):
        default = TrainingSettings.model_fields[name].default
        if settings.scheduler not in DECAYING and getattr(settings, name) != default:
            raise UsageError(
                f"--{name.replace('_', '-')}: the scheduler {settings.scheduler!r} falls otherwise",
                expected=f"--scheduler {', '.join(DECAYING[:-1])} or {DECAYING[-1]} with it",
                next_step="leave it out, or give another --scheduler",
            )


def _in_full(augmentation: str) -> str:
    if augmentation.endswith(transforms.TRANSFORM_ENDINGS):
        return transforms.read_transform(Path(augmentation))
    find_augmentation(augmentation)
    return augmentation


def _chosen(settings: TrainingSettings, ranges: RandomRanges, index: int) -> TrainingSettings | None:
    if settings.hparams == "fixed":
        return settings
    if settings.hparams == "random":
        return settings.model_copy(update=draw_hyperparameters(ranges, settings.random_seed, index))
    entry = _entry_of_file(Path(settings.hparams), index)
    if entry.get("lr") is None:
        return None
    values = {key: entry[key] for key in _DRAWN if key in entry}
    values = {key: value if value is not None else _absent(key) for key, value in values.items()}
    try:
        return TrainingSettings.model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{settings.hparams}: model_{index}: {first['loc'][-1] if first['loc'] else 'settings'}",
            expected=first["msg"],
            found=repr(first["input"]),
        ) from error


def _absent(key: str) -> Any:
    return {"mix": 0.0, "smoothing": 0.0, "wd": 0.0}.get(key)


def draw_hyperparameters(ranges: RandomRanges, random_seed: int, index: int) -> dict[str, Any]:
    """Row `index` of the random search of Wortsman et al. 2022 (arXiv:2203.05482, appendix J.2.1).

    Every column has a generator of its own, so that changing one range leaves the other columns alone.
    """

    def generator(column: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([random_seed, index, _STREAM, column]))

    magnitude = int(generator(3).integers(*ranges.magnitude_range, endpoint=True))
    operations = int(generator(4).integers(*ranges.operations_range, endpoint=True))
    return {
        "lr": _log_uniform(generator(0), ranges.lr_range),
        "wd": _log_uniform(generator(1), ranges.wd_range),
        "epochs": int(generator(2).integers(*ranges.epochs_range, endpoint=True)),
        "aug": f"rand-m{magnitude}-n{operations}" if operations else None,
        "mix": _half_of_them(generator(5), ranges.mix_range),
        "smoothing": _half_of_them(generator(6), ranges.smoothing_range),
    }


def _half_of_them(generator: np.random.Generator, bounds: tuple[float, float]) -> float:
    value, used = float(generator.uniform(*bounds)), bool(generator.integers(2))
    return round(value, 6) if used else 0.0


def _log_uniform(generator: np.random.Generator, bounds: tuple[float, float]) -> float:
    exponent = float(generator.uniform(math.log(bounds[0]), math.log(bounds[1])))
    return float(f"{math.exp(exponent):.6g}")  # Six digits: readable in logs and the same everywhere.


def _entry_of_file(path: Path, index: int) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"--hparams {path}: no such file", expected="fixed, random, or a JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not JSON", found=str(error)) from error
    entry = content.get(f"model_{index}") if isinstance(content, dict) else None
    if not isinstance(entry, dict):
        raise DataError(
            f"{path}: no entry model_{index}",
            expected='{"model_0": {"lr": …, "wd": …, "epochs": …, "aug": …, "mix": …, "smoothing": …}, …}',
        )
    return entry
