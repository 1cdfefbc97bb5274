"""Batches of pixels for training and evaluation, independent of the number of worker processes and of a resume.

Batches are uint8; normalisation and the transfer to the device are not here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UserError
from soups.core.signals import ignore_stop_signals
from soups.data.augment.augment import Augmentation
from soups.data.images.cache import Images
from soups.data.limit import occurrences_before
from soups.runtime.devices import derived_seed
from soups.runtime.process_group import SINGLE_PROCESS, ProcessGroup

if TYPE_CHECKING:
    import torch

    Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

Sample = tuple[int, int, int]  # Epoch, row, and index among repeats of an oversampled row.


class TrainingLoader(AbstractContextManager["TrainingLoader"]):
    """Loads augmented training batches, with worker processes that persist across epochs.

    The order depends on (seed, epoch) and a sample's augmentation on (seed, epoch, row, copy), so neither depends on
    the workers, the batch size, or a resume within an epoch.

        with TrainingLoader(images, labels, rows, augmentation, batch_size, seed, workers) as loader:
            for epoch in range(epochs):
                for pixels, targets, positions in loader.epoch(epoch): ...
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        rows: np.ndarray,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        workers: int = 0,
        *,
        copies: Augmentation | None = None,
        chances: np.ndarray | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """
        Args:
            images: N images, at least as large as the augmentation's crop needs.
            labels: (N,) int64, class indices of the images.
            rows: (K,) positions in `images` to train on; repeated for oversampling.
            augmentation: augmentation of each image.
            batch_size: images per batch of all processes together; the last batch of an epoch may be smaller.
            seed: seed of this fine-tune.
            workers: number of worker processes; 0 loads in this process.
            copies: augmentation of repeats of a row after its first occurrence; None: `augmentation`.
            chances: (K,) sampling probabilities of the entries of `rows`; K are drawn per epoch with replacement.
                None: each entry once per epoch.
            group: processes that share each batch. A process without a share receives the batch's first image.
        """
        self._sampler = _BatchSampler(np.asarray(rows, dtype=np.int64), batch_size, seed, chances, group)
        labels = np.asarray(labels, dtype=np.int64)
        self._load = partial(_training_batch, images, labels, augmentation, copies or augmentation, seed)
        self._workers = workers
        self._loader: Any = None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self._sampler.rows) // self._sampler.batch_size)

    def batch_length(self, step: int) -> int:
        """Return the number of images in a batch, of all processes together."""
        return min(self._sampler.batch_size, len(self._sampler.rows) - step * self._sampler.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> "Iterator[Batch]":
        """Yield the batches of one epoch.

        Args:
            epoch: index of the epoch, from 0.
            start_step: number of batches to skip at the beginning, without decoding.

        Yields:
            Pixels (B, size, size, 3) uint8, labels (B,) int64, and positions in `images` (B,) int64.
        """
        if self._loader is None:
            self._loader = _build_loader(self._load, self._sampler, self._workers)
        self._sampler.epoch, self._sampler.start = epoch, start_step
        yield from _raise_errors(self._loader)

    def close(self) -> None:
        """End the workers; the next epoch starts new ones."""
        _end_workers(self._loader)
        self._loader = None

    def __exit__(self, *error: object) -> None:
        self.close()


def evaluation_batches(images: Images, batch_size: int, workers: int = 0) -> "Iterator[torch.Tensor]":
    """Yield all images in order, (B, S, S, 3) uint8 each; the last batch may be smaller.

    Starts workers only if images must be decoded.
    """
    import torch

    steps = [np.arange(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    if workers == 0 or images.cached:
        for step in steps:
            yield torch.from_numpy(images.take(step))
        return
    loader = _build_loader(images.take, steps, workers)
    try:
        yield from _raise_errors(loader)
    finally:
        _end_workers(loader)


@dataclass
class _BatchSampler:
    """The batches of samples of one epoch, as a DataLoader's `batch_sampler`; see `TrainingLoader`."""

    rows: np.ndarray
    batch_size: int
    seed: int
    chances: np.ndarray | None
    group: ProcessGroup
    epoch: int = 0
    start: int = 0
    """Index of the first batch."""

    def __iter__(self) -> Iterator[list[Sample]]:
        epoch, generator, size = self.epoch, np.random.default_rng([self.seed, self.epoch]), len(self.rows)
        if self.chances is None:
            order = generator.permutation(size)
            copies = occurrences_before(self.rows)[order]
        else:
            order = generator.choice(size, size, p=self.chances)
            copies = occurrences_before(order)
        rows = self.rows[order]
        for start in range(self.start * self.batch_size, size, self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = list(zip(rows[part].tolist(), copies[part].tolist(), strict=True))
            own = batch[self.group.shard(len(batch))] or batch[:1]
            yield [(epoch, row, copy) for row, copy in own]


def _training_batch(
    images: Images,
    labels: np.ndarray,
    augmentation: Augmentation,
    copies: Augmentation,
    seed: int,
    samples: Sequence[Sample],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return augmented pixels, labels and rows of one batch; repeats of a row have the augmentation `copies`."""
    rows = np.array([row for _, row, _ in samples], dtype=np.int64)
    seeds = np.array([derived_seed(seed, *sample) for sample in samples])
    if copies is augmentation:
        return augmentation.batch((images[int(row)] for row in rows), seeds.tolist()), labels[rows], rows
    pixels = np.empty((len(rows), augmentation.size, augmentation.size, 3), dtype=np.uint8)
    is_copy = np.array([copy > 0 for _, _, copy in samples])
    for steps, chosen in ((augmentation, ~is_copy), (copies, is_copy)):
        pixels[chosen] = steps.batch((images[int(row)] for row in rows[chosen]), seeds[chosen].tolist())
    return pixels, labels[rows], rows


@dataclass(frozen=True)
class _BatchDataset:
    """Dataset that loads a whole batch per call; a user error is returned, see `_raise_errors`."""

    load: Callable[[Any], Any]

    def __getitems__(self, samples: Any) -> Any:
        try:
            return self.load(samples)
        except UserError as error:
            return error


def _raise_errors(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches; raise a user error that a dataset returned in place of one.

    An exception raised in a worker would reach the user as text with the worker's traceback.
    """
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _to_tensors(batch: Any) -> Any:
    import torch

    if isinstance(batch, UserError):
        return batch
    if isinstance(batch, tuple):
        return tuple(torch.from_numpy(part) for part in batch)
    return torch.from_numpy(batch)


def _build_loader(load: Callable[[Any], Any], batches: Any, workers: int) -> Any:
    import torch
    from torch.utils.data import DataLoader

    return DataLoader(
        _BatchDataset(load),  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_to_tensors,
        # Otherwise the DataLoader draws from the global generator.
        generator=torch.Generator(),
        # A forked process inherits locks that other threads may hold.
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_stop_signals if workers else None,
    )


def _ignore_stop_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal, until the main process has saved a checkpoint."""
    ignore_stop_signals()


def _end_workers(loader: Any) -> None:
    # A DataLoader has no public method for this, and deleting its iterator fails while a traceback refers to it.
    if (iterator := getattr(loader, "_iterator", None)) is not None:
        # torch's signal handler raises if a worker aborts during shutdown, which is harmless here.
        with suppress(RuntimeError):
            iterator._shutdown_workers()
        for process in getattr(iterator, "_workers", ()):
            if process.is_alive():  # Still decoding an image, so that it has not handled SIGTERM.
                process.kill()
