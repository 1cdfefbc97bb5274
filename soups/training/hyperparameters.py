"""Hyperparameters of fine-tune i: from the flags, drawn at random, or an entry of a JSON file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.packages import require_package
from soups.data.augment import rand_augment, transforms
from soups.data.augment.augment import FLIP, find_augmentation
from soups.training.losses import LOSSES, contrastive
from soups.training.schedule import DECAYING, SCHEDULES
from soups.training.settings import RandomRanges, TrainingSettings

RECORDED = "recorded"
"""Value of --hparams in a run's settings file: the flags as they are, with no default filled in."""
DEFAULT_SMOOTHING = 0.1
"""Smoothing of LabelSmoothingLoss if --smoothing is not given (Szegedy et al., arXiv:1512.00567, section 7)."""
_DRAWN_FIELDS = ("lr", "wd", "epochs", "aug", "mix", "smoothing")
_RANDOM_STREAM = 1  # Separates the draw of the hyperparameters from other uses of (random seed, index).


def hyperparameters(settings: TrainingSettings, ranges: RandomRanges, index: int) -> TrainingSettings | None:
    """Returns the settings of fine-tune `index`; None if a file's entry is the start itself (it has no `lr`).

    Raises:
        UsageError: `--hparams` is neither a known word nor a file, or the loss or augmentation is unknown.
        DataError: the file is damaged, lacks the entry or contains an invalid value.
    """
    settings = canonicalize(settings)
    chosen: TrainingSettings | None = settings
    if settings.hparams == "random":
        chosen = settings.model_copy(update=draw_hyperparameters(ranges, settings.random_seed, index))
    elif settings.hparams not in ("fixed", RECORDED):
        chosen = _apply_entry(settings, _read_entry(Path(settings.hparams), index), index)
    if chosen is not None and chosen.augmentation == "none" and chosen.aug is not None:
        return chosen.model_copy(update={"aug": None})  # The value was drawn at random.
    return chosen


def canonicalize(settings: TrainingSettings) -> TrainingSettings:
    """Returns the settings with short forms written in full, so that equal work has equal settings.

    `old_aug` is replaced by the settings it stands for, an augmentation file by its content, and defaults that
    depend on other settings are filled in.

    Raises:
        UsageError: unknown loss, scheduler or augmentation, an invalid augmentation file, or a decay setting that
            the scheduler does not use.
        EnvironmentFailure: the loss needs a package that is not installed.
    """
    if settings.loss_fn not in LOSSES:
        raise unknown_name("loss", settings.loss_fn, LOSSES)
    if LOSSES[settings.loss_fn] is contrastive:
        require_package("pytorch_metric_learning", f"--loss-fn {settings.loss_fn}", "pytorch-metric-learning")
    if settings.scheduler not in SCHEDULES:
        raise unknown_name("scheduler", settings.scheduler, SCHEDULES)
    _check_decay_is_used(settings)
    changes: dict[str, Any] = {"augmentation": _canonical_augmentation(settings.augmentation)}
    if settings.old_aug:
        changes |= {"old_aug": False, "oversample": ("age=old=2",), "oversample_augment": FLIP}
    elif settings.oversample_augment not in ("same", FLIP):
        changes["oversample_augment"] = _canonical_augmentation(settings.oversample_augment)
    if settings.loss_fn == "LabelSmoothingLoss" and settings.smoothing == 0 and settings.hparams != RECORDED:
        changes["smoothing"] = DEFAULT_SMOOTHING
    if settings.augmentation == "randaugment" and settings.aug is None and settings.hparams == "fixed":
        changes["aug"] = rand_augment.DEFAULT_RAND_AUGMENT
    return settings.model_copy(update=changes)


def _check_decay_is_used(settings: TrainingSettings) -> None:
    for name in ("decay_epochs", "decay_rate"):
        default = TrainingSettings.model_fields[name].default
        if settings.scheduler not in DECAYING and getattr(settings, name) != default:
            raise UsageError(
                f"--{name.replace('_', '-')}: the scheduler {settings.scheduler!r} does not use it",
                expected=f"--scheduler {', '.join(DECAYING[:-1])} or {DECAYING[-1]} with it",
                next_step="leave it out, or use another --scheduler",
            )


def _canonical_augmentation(augmentation: str) -> str:
    if augmentation.endswith(transforms.TRANSFORM_ENDINGS):
        return transforms.read_transform(Path(augmentation))
    find_augmentation(augmentation)
    return augmentation


def _apply_entry(settings: TrainingSettings, entry: dict[str, Any], index: int) -> TrainingSettings | None:
    if entry.get("lr") is None:
        return None
    off = {"wd": 0.0, "mix": 0.0, "smoothing": 0.0}  # The values that `null` stands for.
    values = {key: off.get(key) if entry[key] is None else entry[key] for key in _DRAWN_FIELDS if key in entry}
    try:
        return TrainingSettings.model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{settings.hparams}: model_{index}: {first['loc'][-1] if first['loc'] else 'settings'}",
            expected=first["msg"],
            found=repr(first["input"]),
        ) from error


def draw_hyperparameters(ranges: RandomRanges, random_seed: int, index: int) -> dict[str, Any]:
    """Returns row `index` of the random search of Wortsman et al. 2022 (arXiv:2203.05482, appendix J.2.1).

    Every column has its own generator, so that changing one range does not change the other columns.
    """

    def generator(column: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([random_seed, index, _RANDOM_STREAM, column]))

    magnitude = int(generator(3).integers(*ranges.magnitude_range, endpoint=True))
    operations = int(generator(4).integers(*ranges.operations_range, endpoint=True))
    return {
        "lr": _draw_log_uniform(generator(0), ranges.lr_range),
        "wd": _draw_log_uniform(generator(1), ranges.wd_range),
        "epochs": int(generator(2).integers(*ranges.epochs_range, endpoint=True)),
        "aug": f"rand-m{magnitude}-n{operations}" if operations else None,
        "mix": _draw_uniform_or_zero(generator(5), ranges.mix_range),
        "smoothing": _draw_uniform_or_zero(generator(6), ranges.smoothing_range),
    }


def _draw_uniform_or_zero(generator: np.random.Generator, bounds: tuple[float, float]) -> float:
    value, used = float(generator.uniform(*bounds)), bool(generator.integers(2))
    return round(value, 6) if used else 0.0


def _draw_log_uniform(generator: np.random.Generator, bounds: tuple[float, float]) -> float:
    exponent = float(generator.uniform(math.log(bounds[0]), math.log(bounds[1])))
    return float(f"{math.exp(exponent):.6g}")  # Six digits are readable in logs and the same on every platform.


def _read_entry(path: Path, index: int) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"--hparams {path}: no such file", expected="fixed, random, or a JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: invalid JSON", found=str(error)) from error
    entry = content.get(f"model_{index}") if isinstance(content, dict) else None
    if not isinstance(entry, dict):
        raise DataError(
            f"{path}: no entry model_{index}",
            expected='{"model_0": {"lr": …, "wd": …, "epochs": …, "aug": …, "mix": …, "smoothing": …}, …}',
        )
    return entry
