"""Batches of pixels, the same whatever the number of worker processes and wherever an epoch is taken up again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UserError
from soups.core.signals import leave_signals_to_parent
from soups.data.augment.augment import Augmentation
from soups.data.images.cache import Images
from soups.runtime.devices import derived_seed
from soups.runtime.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    import torch

    Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

Sample = tuple[int, int, int]  # Epoch, row, number of the copy of an oversampled row.


class TrainingLoader:
    """Augmented batches, epoch after epoch, with workers that live across epochs.

    The order comes from (seed, epoch) and a sample's augmentation from (seed, epoch, row, copy), so nothing depends on
    the workers, on the batch size, or on a resume in the middle of an epoch.

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
        group: ProcessGroup = ALONE,
    ) -> None:
        """
        Args:
            images: N images, at least as large as the augmentation's crop wants them.
            labels: (N,) int64, class indices of the images.
            rows: (K,) positions in `images` that are trained on, with repeats where they are oversampled.
            augmentation: what is done to each image.
            batch_size: images in a batch; the last of an epoch may be shorter.
            seed: of this fine-tune.
            workers: processes that augment; 0 does it in this one.
            copies: what is done to all but the first of repeated rows, where that is something else.
            chances: (K,) with which each entry of `rows` is drawn, K times an epoch, with replacement; None: each
                once an epoch.
            group: processes among which each batch is shared; one for which nothing is left has its first image.
        """
        self._order = _BatchSampler(np.asarray(rows, dtype=np.int64), batch_size, seed, chances, group)
        self._images, self._labels, self._augmentation = images, labels, augmentation
        self._copies = copies or augmentation
        self._workers = workers
        self._loader: Any = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._order.batches

    def batch_length(self, step: int) -> int:
        """Images in a batch of an epoch, those of all processes together."""
        return min(self._order.batch_size, len(self._order.rows) - step * self._order.batch_size)

    def epoch(self, epoch: int, start_step: int = 0) -> "Iterator[Batch]":
        """The batches of one epoch.

        Args:
            epoch: from 0 on.
            start_step: batches at the beginning that are passed over without decoding.

        Yields:
            Pixels (B, size, size, 3) uint8, labels (B,) int64, and positions in `images` (B,) int64.
        """
        if self._loader is None:
            augmentations = self._augmentation, self._copies
            dataset = _TrainingDataset(self._images, self._labels, augmentations, self._order.seed)
            self._loader = _build_loader(dataset, self._order, self._workers)
        self._order.epoch, self._order.start = epoch, start_step
        yield from _raise_errors(self._loader)

    def close(self) -> None:
        """End the workers. The next epoch starts new ones."""
        _end_workers(self._loader)
        self._loader = None

    def __enter__(self) -> "TrainingLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def evaluation_batches(images: Images, batch_size: int, workers: int = 0) -> "Iterator[torch.Tensor]":
    """All images in their order, none left out: (B, S, S, 3) uint8 each, the last maybe shorter.

    Workers are started only where there is something to decode.
    """
    import torch

    steps = [np.arange(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    if workers == 0 or images.cached:
        for step in steps:
            yield torch.from_numpy(images.take(step))
        return
    loader = _build_loader(_EvaluationDataset(images), steps, workers)
    try:
        yield from _raise_errors(loader)
    finally:
        _end_workers(loader)


class _BatchSampler:
    """The batches of samples of one epoch: what a DataLoader calls a batch sampler."""

    def __init__(
        self, rows: np.ndarray, batch_size: int, seed: int, chances: np.ndarray | None, group: ProcessGroup
    ) -> None:
        self.rows, self.batch_size, self.seed, self.chances, self.group = rows, batch_size, seed, chances, group
        self.batches = -(-len(rows) // batch_size)
        self.epoch = self.start = 0
        self._copies = _copy_numbers(rows)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Sample]]:
        epoch, generator, size = self.epoch, np.random.default_rng([self.seed, self.epoch]), len(self.rows)
        if self.chances is None:
            order = generator.permutation(size)
            copies = self._copies[order]
        else:
            order = generator.choice(size, size, p=self.chances)
            copies = _copy_numbers(order)
        rows = self.rows[order]
        for start in range(self.start * self.batch_size, size, self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = list(zip(rows[part].tolist(), copies[part].tolist(), strict=True))
            own = batch[self.group.share(len(batch))] or batch[:1]
            yield [(epoch, row, copy) for row, copy in own]


def _copy_numbers(rows: np.ndarray) -> np.ndarray:
    """For each entry, how many equal ones stand before it: (K,) int64."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.searchsorted(ordered, ordered, side="left")
    copies = np.empty(len(rows), dtype=np.int64)
    copies[order] = np.arange(len(rows)) - first
    return copies


class _TrainingDataset:
    """Whole batches for a DataLoader's workers: one call, one array."""

    def __init__(
        self, images: Images, labels: np.ndarray, augmentations: tuple[Augmentation, Augmentation], seed: int
    ) -> None:
        self._images, self._labels = images, np.asarray(labels, dtype=np.int64)
        self._augmentation, self._of_copies = augmentations
        self._seed = seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, samples: Sequence[Sample]) -> tuple[np.ndarray, ...] | UserError:
        try:
            return self._batch(samples)
        except UserError as error:
            return error

    def _batch(self, samples: Sequence[Sample]) -> tuple[np.ndarray, ...]:
        seeds = [derived_seed(self._seed, epoch, row, copy) for epoch, row, copy in samples]
        rows = np.array([row for _, row, _ in samples], dtype=np.int64)
        if self._of_copies is self._augmentation:
            return self._augmented(self._augmentation, rows, seeds), self._labels[rows], rows
        again = np.array([copy > 0 for _, _, copy in samples])
        pixels = np.empty((len(rows), *(self._augmentation.size,) * 2, 3), dtype=np.uint8)
        for augmentation, chosen in ((self._augmentation, ~again), (self._of_copies, again)):
            own = [seed for seed, wanted in zip(seeds, chosen, strict=True) if wanted]
            pixels[chosen] = self._augmented(augmentation, rows[chosen], own)
        return pixels, self._labels[rows], rows

    def _augmented(self, augmentation: Augmentation, rows: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        return augmentation.batch((self._images[int(row)] for row in rows), seeds)


class _EvaluationDataset:
    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, rows: np.ndarray) -> np.ndarray | UserError:
        try:
            return self._images.take(rows)
        except UserError as error:
            return error


def _raise_errors(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches; a user's error that came instead of one is raised.

    An exception would leave a worker as text, its traceback in place of the message.
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


def _build_loader(dataset: Any, batches: Any, workers: int, collate: Callable[[Any], Any] = _to_tensors) -> Any:
    import torch
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        # Without its own generator it would draw from the global one.
        generator=torch.Generator(),
        # A fork would copy threads and locks in an unknown state.
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_to_parent if workers else None,
    )


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; this one goes on until training has come to a point to save."""
    leave_signals_to_parent()


def _end_workers(loader: Any) -> None:
    # A DataLoader has no public way to do this, and forgetting its iterator fails where a traceback holds on to it.
    if (iterator := getattr(loader, "_iterator", None)) is not None:
        # One that aborts while it is ended is gone as wished, though torch's handler tells of it.
        with suppress(RuntimeError):
            iterator._shutdown_workers()
        for process in getattr(iterator, "_workers", ()):
            if process.is_alive():  # In the middle of an image, and deaf to the polite signal.
                process.kill()
