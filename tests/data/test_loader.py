"""Batches do not depend on workers, on a resume or on the global generators."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from soups.core.errors import DataError
from soups.data.augment.augment import Augmentation
from soups.data.augment.crops import Flip, RandomCrop
from soups.data.augment.rand_augment import RandAugment
from soups.data.images.cache import Images
from soups.data.images.geometry import Geometry
from soups.data.loader import TrainingLoader, evaluation_batches
from soups.runtime.devices import derived_seed

COUNT, SIZE = 23, 8
AUGMENTATION = Augmentation(SIZE, (RandomCrop(SIZE),))
STRONG = Augmentation(SIZE, (RandomCrop(SIZE), RandAugment("rand-m9-n2", SIZE)))
LABELS = np.arange(COUNT) % 3

Batches = list[tuple[torch.Tensor, ...]]


def training_batches(
    images: Images,
    labels: np.ndarray,
    rows: np.ndarray,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
) -> Iterator[Any]:
    """The batches of a single epoch."""
    with TrainingLoader(images, labels, rows, augmentation, batch_size, seed, workers) as loader:
        yield from loader.epoch(epoch)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(COUNT)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(path)
    return Images(paths, Geometry(30, 30))


def epochs_of(loader: TrainingLoader, epochs: range = range(2)) -> Batches:
    return [batch for epoch in epochs for batch in loader.epoch(epoch)]


def equal(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_every_row_once_and_a_smaller_last_batch(images: Images) -> None:
    loader = TrainingLoader(images, LABELS, np.arange(COUNT), AUGMENTATION, 5, seed=1)
    batches = list(loader.epoch(0))
    assert len(loader) == len(batches) == 5 and [len(batch[1]) for batch in batches] == [5, 5, 5, 5, 3]
    pixels, labels, rows = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert pixels.shape == (COUNT, SIZE, SIZE, 3) and pixels.dtype == torch.uint8 and labels.dtype == torch.int64
    assert sorted(rows.tolist()) == list(range(COUNT)) and rows.tolist() != list(range(COUNT))
    assert labels.tolist() == LABELS[rows].tolist()


def test_against_a_plain_reference(images: Images) -> None:
    rows = np.array([4, 4, 9, 1, 4])
    got = {}
    for pixels, _, positions in training_batches(images, LABELS, rows, AUGMENTATION, 2, seed=7, epoch=3):
        for picture, row in zip(pixels, positions.tolist(), strict=True):
            got.setdefault(row, set()).add(picture.numpy().tobytes())
    expected: dict[int, set[bytes]] = {}
    for row, copy in ((4, 0), (4, 1), (9, 0), (1, 0), (4, 2)):
        seed = derived_seed(7, 3, row, copy)
        expected.setdefault(row, set()).add(AUGMENTATION(images[row], seed).tobytes())
    assert got == expected and len(got[4]) == 3


def test_order_and_pixels_depend_on_seed_and_epoch_alone(images: Images) -> None:
    rows = np.arange(COUNT)
    first = epochs_of(TrainingLoader(images, LABELS, rows, AUGMENTATION, COUNT, seed=1))
    assert not torch.equal(first[0][2], first[1][2])
    assert equal(first[1:], list(training_batches(images, LABELS, rows, AUGMENTATION, COUNT, 1, 1)))
    assert not equal(first[:1], list(training_batches(images, LABELS, rows, AUGMENTATION, COUNT, 2, 0)))
    smaller = list(training_batches(images, LABELS, rows, AUGMENTATION, 4, 1, 0))
    assert torch.equal(torch.cat([batch[0] for batch in smaller]), first[0][0])


def test_global_generators_are_not_used(images: Images) -> None:
    def run() -> Batches:
        return list(training_batches(images, LABELS, np.arange(COUNT), STRONG, 9, 1, 0))

    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = run()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert equal(run(), one)


def test_an_epoch_resumes_without_decoding_the_skipped_batches(images: Images) -> None:
    loader = TrainingLoader(images, LABELS, np.arange(COUNT), AUGMENTATION, 4, seed=1)
    whole = list(loader.epoch(2))
    assert equal(list(loader.epoch(2, start_step=3)), whole[3:])
    assert list(loader.epoch(2, start_step=6)) == [] and equal(list(loader.epoch(2)), whole)
    for place, path in enumerate(images.paths):
        if place in {row for batch in whole[:3] for row in batch[2].tolist()}:
            path.unlink()
    assert equal(list(loader.epoch(2, start_step=3)), whole[3:])


def test_two_workers_give_the_same_bytes_and_persist(images: Images) -> None:
    rows = np.concatenate([np.arange(COUNT), np.arange(5)])
    copies = Augmentation(SIZE, (Flip(), *STRONG.steps))
    alone = TrainingLoader(images, LABELS, rows, STRONG, 4, seed=3, copies=copies)
    with TrainingLoader(images, LABELS, rows, STRONG, 4, seed=3, workers=2, copies=copies) as loader:
        first = list(loader.epoch(0))
        workers = list(loader._loader._iterator._workers)
        abandoned = loader.epoch(1)
        next(abandoned)
        abandoned.close()  # type: ignore[attr-defined]
        rest = list(loader.epoch(1, start_step=2))
        assert workers == list(loader._loader._iterator._workers), "workers are not started anew"
        assert len(workers) == 2 and all(worker.is_alive() for worker in workers)
        expected = list(alone.epoch(0)) + list(alone.epoch(1, start_step=2))
        evaluated = list(evaluation_batches(images, 5, workers=1))
        kept = images.take(range(COUNT))
        images.paths[3].unlink()
        with pytest.raises(DataError, match=r"^.*3\.png: no such file\n  expected: an image file$"):
            list(loader.epoch(2))
    for worker in workers:
        worker.join(600)
    assert not any(worker.is_alive() for worker in workers)
    assert equal(first + rest, expected)
    assert np.array_equal(torch.cat(evaluated).numpy(), kept)


def test_evaluation_keeps_order_and_drops_nothing(images: Images) -> None:
    batches = list(evaluation_batches(images, 5))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert np.array_equal(torch.cat(batches).numpy(), np.stack([images[index] for index in range(COUNT)]))
    assert list(evaluation_batches(Images([], Geometry(30, 30)), 5)) == []


def test_only_copies_get_the_augmentation_of_copies(images: Images) -> None:
    rows = np.array([0, 1, 1, 1, 2])
    mirrored, plain = Augmentation(30, (Flip(),)), Augmentation(30, ())
    with TrainingLoader(images, LABELS, rows, plain, 5, seed=1, copies=mirrored) as loader:
        pixels, labels, positions = next(iter(loader.epoch(0)))
    assert sorted(positions.tolist()) == rows.tolist() and torch.equal(labels, torch.from_numpy(LABELS[positions]))
    turned = dict.fromkeys((0, 1, 2), 0)
    for image, own in zip(pixels, positions.tolist(), strict=True):
        turned[own] += np.array_equal(image, images[own][:, ::-1])
    assert turned == {0: 0, 1: 2, 2: 0}
    assert sum(np.array_equal(image, images[1]) for image in pixels) == 1


def test_rows_are_drawn_by_their_probabilities(images: Images) -> None:
    chances = np.where(LABELS == 0, 4.0, 1.0)
    chances /= chances.sum()
    with TrainingLoader(images, LABELS, np.arange(COUNT), AUGMENTATION, 7, seed=1, chances=chances) as loader:
        epochs = [torch.cat([batch[2] for batch in loader.epoch(epoch)]) for epoch in range(60)]
        again = torch.cat([batch[2] for batch in loader.epoch(3)])
        late = torch.cat([batch[2] for batch in loader.epoch(3, start_step=2)])
    assert all(len(epoch) == COUNT for epoch in epochs) and torch.equal(again, epochs[3])
    assert torch.equal(late, epochs[3][14:])
    shares = np.bincount(torch.cat(epochs).numpy(), minlength=COUNT) / (60 * COUNT)
    error = np.sqrt(chances * (1 - chances) / (60 * COUNT))
    assert (np.abs(shares - chances) < 5 * error).all()


def test_an_image_drawn_twice_is_augmented_twice(images: Images) -> None:
    chances = np.zeros(COUNT)
    chances[4] = 1
    with TrainingLoader(images, LABELS, np.arange(COUNT), AUGMENTATION, COUNT, seed=1, chances=chances) as loader:
        pixels, _, positions = next(iter(loader.epoch(0)))
    assert set(positions.tolist()) == {4} and len({image.numpy().tobytes() for image in pixels}) > COUNT // 2
