"""Pools of the simulation: kinds of fine-tunes of the last stage on cached features, one file for each fine-tune."""

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from soups.files.atomic import atomic_write, compact_json, make_folder, write_json
from soups.training.hyperparameters import draw_hyperparameters
from soups.training.mixup import mix_batch
from soups.training.optimizers import make_optimizer
from soups.training.schedule import lr_factor
from soups.training.settings import RandomRanges, TrainingSettings
from tools.choice_simulation.features import VIEWS, Features

logger = logging.getLogger(f"soups.{__name__}")

_BATCH = 64


@dataclass(frozen=True)
class PoolKind:
    """How the fine-tunes of a pool differ."""

    description: str
    ranges: RandomRanges
    """Hyperparameters of each fine-tune are drawn as `--hparams random` draws them."""
    images: float = 0.5
    """Share of the training images that all fine-tunes of a pool see."""
    label_noise: float = 0.0
    """Share of the training labels that are replaced by a random class, other ones for each fine-tune."""


def _ranges(lr: tuple[float, float], epochs: tuple[int, int], **others: Any) -> RandomRanges:
    return RandomRanges(lr_range=lr, epochs_range=epochs, **others)


_SAME: dict[str, Any] = {"wd_range": (0.05, 0.05), "mix_range": (0.0, 0.0), "smoothing_range": (0.0, 0.0)}
KINDS: dict[str, PoolKind] = {
    "seeds": PoolKind("equal hyperparameters, other seeds", _ranges((1e-3, 1e-3), (8, 8), **_SAME)),
    "random": PoolKind("drawn hyperparameters, learning rates that work", _ranges((1e-4, 3e-3), (4, 12))),
    "wide": PoolKind("learning rates from too low to too high", _ranges((1e-5, 3e-2), (2, 12))),
    "noisy": PoolKind("400 images, 30% wrong labels", _ranges((1e-3, 1e-2), (4, 16)), images=0.1, label_noise=0.3),
}


def train_pool(
    kind: str, number: int, models: int, seed: int, features: Features, start: nn.Module, folder: Path
) -> None:
    """Fine-tune the models of a pool into `folder`; those that exist are not trained again.

    Args:
        kind: a key of `KINDS`.
        number: number of the pool among those of its kind.
        models: number of fine-tunes.
        seed: of the simulation.
        features: cached features.
        start: network from whose weights all fine-tunes start.
        folder: of the pool.
    """
    make_folder(folder)
    plan, entropy = KINDS[kind], [seed, list(KINDS).index(kind), number]
    pool_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    rows = stratified_rows(features.train_labels, plan.images, np.random.default_rng([*entropy, 0]))
    for index in range(models):
        path = folder / f"model_{index}.safetensors"
        if path.exists():
            continue
        drawn = draw_hyperparameters(plan.ranges, pool_seed, index) | {"aug": None}
        logger.info("%s: fine-tune %d: %s", folder.name, index, compact_json(drawn))
        generator = np.random.default_rng([*entropy, 1, index])
        labels = features.train_labels.copy()
        wrong = generator.random(len(labels)) < plan.label_noise
        labels[wrong] = generator.integers(labels.max() + 1, size=int(wrong.sum()))
        settings = TrainingSettings(batch_size=_BATCH, **drawn)
        state = _fine_tune(copy.deepcopy(start), features.train, labels, rows, settings, generator)
        with atomic_write(path) as temporary:
            save_file(state, temporary)
        write_json(path.with_suffix(".json"), drawn)


def stratified_rows(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return sorted rows, (K,) int64: this share of each class; the classes' fractions are rounded at random.

    Args:
        labels: (N,) int64.
        share: in (0, 1].
        generator: of the draw.
    """
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    count = round(share * len(labels))
    position = np.floor((np.arange(count) + generator.random()) * len(labels) / count).astype(np.int64)
    return np.sort(order[position])


def _fine_tune(
    tail: nn.Module,
    views: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    settings: TrainingSettings,
    generator: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """Return the weights after AdamW with a warm-up and a cosine; statistics of BatchNorm stay those of the start."""
    optimizer = make_optimizer(tail, settings)
    steps = settings.epochs * -(-len(rows) // _BATCH)
    rate, at = settings.lr, 0
    for _ in range(settings.epochs):
        order = generator.permutation(rows)
        for begin in range(0, len(order), _BATCH):
            batch = order[begin : begin + _BATCH]
            inputs = torch.from_numpy(views[generator.integers(VIEWS, size=len(batch)), batch])
            targets = torch.from_numpy(labels[batch])
            for group in optimizer.param_groups:
                group["lr"] = rate * lr_factor(at, steps, settings.warmup)
            loss = _loss(tail, inputs, targets, settings, int(generator.integers(1 << 31)))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tail.parameters(), 1.0)
            optimizer.step()
            at += 1
    return {name: tensor.contiguous() for name, tensor in tail.state_dict().items()}


def _loss(
    tail: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, settings: TrainingSettings, seed: int
) -> torch.Tensor:
    def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=settings.smoothing)

    if not settings.mix:
        return cross_entropy(tail(inputs), targets)
    mixed, partners, share = mix_batch(inputs, settings.mix, seed)
    logits = tail(mixed)
    return share * cross_entropy(logits, targets) + (1 - share) * cross_entropy(logits, targets[partners])
