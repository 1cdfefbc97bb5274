"""Test images cut into shards: each is a piece of work for each model, done wherever there is room, and kept."""

import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from soups.checkpoints.checkpoint import Card
from soups.core.errors import EnvironmentFailure, PartialFailure, UserError
from soups.core.labels import LabelSpace
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry
from soups.data.images.streaming import StreamedImages
from soups.data.layouts.folders import format_list
from soups.data.samples import set_rows
from soups.evaluation.logits import image_stamps, read_logits, stamped_path
from soups.pipeline.run.images import image_paths
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.transfer import Files, RemoteResult, collect_new_files, pack_run, store_files, unpack_run
from soups.runtime.launchers import make_launcher
from soups.runtime.workers import worker_number

logger = logging.getLogger(__name__)

SET = "test"
"""Whose images are predicted."""
_FREE = 0.1
"""Of a disk: pixels of a large set fill it no further, so that logits have room."""


@dataclass(frozen=True, kw_only=True)
class ShardContext(RunContext):
    """A context whose run has some of the test images alone, and nothing else."""

    number: int
    """From 1."""
    of: int
    """How many shards there are."""
    start: int
    """Which of the test images is the first here, from 0."""
    images: int
    """How many test images there are."""
    stamp: str
    """Stands for the image files of the shard, as they were when it was cut."""
    whole_stamp: str
    """Stands for all of them."""
    alone: bool
    """Whether one model looks at them, so that nothing is gained by keeping their pixels."""

    @property
    def rows(self) -> slice:
        """Which of all test images these are."""
        return slice(self.start, self.start + len(self.run.samples))

    def has_logits(self, path: Path, space: LabelSpace) -> bool:
        """Whether a model's logits are kept, of the shard or of all test images."""
        size = len(self.run.samples)
        if read_logits(self._place(path, SET), size, len(space), mapped=True) is not None:
            return True
        return self._of_all(path, len(space)) is not None

    def _place(self, path: Path, set_name: str) -> Path:
        return self._stamped(path, self.stamp)

    def _stamped(self, path: Path, stamp: str) -> Path:
        return stamped_path(self.run.folder / "logits", self.run.sha256(path), SET, stamp, self.runtime)

    def _of_all(self, path: Path, classes: int) -> np.ndarray | None:
        return read_logits(self._stamped(path, self.whole_stamp), self.images, classes, mapped=True)

    def _kept(self, place: Path, path: Path, set_name: str, classes: int) -> np.ndarray | None:
        own = super()._kept(place, path, set_name, classes)
        if own is not None or (whole := self._of_all(path, classes)) is None:
            return own
        return np.array(whole[self.rows])

    def _images(self, name: str, card: Card) -> Images:
        if self.of == 1:
            return super()._images(name, card)
        paths, geometry = image_paths(self.run.samples, self.run), evaluation_geometry(card.preprocessing)
        if not self._keeps_pixels(3 * len(paths) * geometry.crop**2):
            return StreamedImages(paths, geometry)
        # In a folder of its own: what is known of the files of all shards would be read and written for each of them.
        return open_images(paths, geometry, self.cache.cache, self.run.image_cache / self.stamp)

    def _keeps_pixels(self, size: int) -> bool:
        if self.cache.cache != "auto":
            return self.cache.cache == "on"
        folder = self.run.image_cache
        disk = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists()))
        return not self.alone and disk.free - size > _FREE * disk.total


@dataclass(frozen=True)
class ShardTask:
    """A model and a shard."""

    shard: ShardContext
    path: Path
    space: LabelSpace

    def __str__(self) -> str:
        return f"shard {self.shard.number} of {self.shard.of} by {self.path.stem}"


@dataclass(frozen=True)
class FailedTask:
    """A piece that could not be done."""

    piece: ShardTask
    error: Exception
    """Of the user, of the machine, or a fault of ours."""

    @property
    def reason(self) -> str:
        """In words."""
        if not isinstance(self.error, UserError):
            return f"{type(self.error).__name__}: {self.error}"
        return self.error.problem + (f"\n  found: {self.error.found}" if self.error.found else "")


def split_into_shards(context: RunContext, size: int, models: int) -> list[ShardContext]:
    """The test images of a run in shards, in their order.

    Args:
        context: the run.
        size: images in a shard; more where they fill the last batch, so that the shards do not show in the logits.
        models: how many models will look at them.

    Raises:
        DataError: an image is gone.
    """
    rows, batch = set_rows(context.run.samples, SET).reset_index(drop=True), context.evaluation.eval_batch_size
    size = -(-size // batch) * batch
    starts = range(0, len(rows), size)
    whole_stamp, own_stamps = image_stamps(image_paths(rows, context.run), size)
    common = {field.name: getattr(context, field.name) for field in fields(RunContext) if field.name != "run"}
    return [
        ShardContext(
            run=replace(context.run, table=rows.iloc[start : start + size], classes=context.run.space),
            **common,
            number=number,
            of=len(starts),
            start=start,
            images=len(rows),
            stamp=stamp,
            whole_stamp=whole_stamp,
            alone=models == 1,
        )
        for number, (start, stamp) in enumerate(zip(starts, own_stamps, strict=True), start=1)
    ]


def compute_missing(shards: Sequence[ShardContext], models: Mapping[Path, LabelSpace]) -> list[FailedTask]:
    """Compute the logits of models on shards that are not kept yet, and keep them; the pieces that could not be done.

    Args:
        shards: all of a run.
        models: file → the classes in the order that is wanted.
    """
    pieces = [ShardTask(shard, path, space) for path, space in models.items() for shard in shards]
    missing = [piece for piece in pieces if not piece.shard.has_logits(piece.path, piece.space)]
    if len(shards) > 1:
        cut_up = f"{shards[0].images} images in {len(shards)} shards of {len(shards[0].run.samples)}"
        many = f"{len(models)} model{'s' * (len(models) > 1)}"
        there = len(pieces) - len(missing)
        logger.info("%s, %s: %d of %d pieces of work are done already", cut_up, many, there, len(pieces))
    failed = []
    for ended, (piece, result) in enumerate(_spread(missing), start=1):
        if isinstance(result, Exception):
            failed.append(FailedTask(piece, result))
            trace = None if isinstance(result, UserError) else result
            logger.warning("%s: failed (%d of %d)", piece, ended, len(missing), exc_info=trace)
        elif len(shards) > 1:
            logger.info("%s: done (%d of %d)", piece, ended, len(missing))
    return failed


def compute_shard(piece: ShardTask) -> None:
    """Compute the logits of a piece and keep them, whole or not at all."""
    shard = replace(piece.shard, runtime=piece.shard.runtime.of_worker(worker_number()))
    shard.logits(piece.path, [SET], piece.space)


def _spread(pieces: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Exception | None]]:
    """The pieces, as they end, wherever they are done."""
    if not pieces:  # A cluster would be looked for in vain.
        return
    shard = pieces[0].shard
    launcher = make_launcher(shard.launch, shard.runtime)
    if not shard.launch.no_shared_storage:
        yield from launcher.run_all(compute_shard, pieces)
        return
    run = shard.run
    packed = pack_run(run)
    for path in dict.fromkeys(piece.path for piece in pieces):  # A model is sent to each machine once.
        with_model = {**packed, f"models/{path.name}": path.read_bytes()}
        for piece, remote in launcher.run_all(
            _compute_unpacked, [piece for piece in pieces if piece.path == path], with_model
        ):
            if isinstance(remote, Exception):
                yield piece, remote
                continue
            store_files(remote.files, run)
            yield piece, None


def _compute_unpacked(piece: ShardTask, common: Files) -> RemoteResult:
    with TemporaryDirectory() as folder:
        sent = piece.shard.run
        run = unpack_run(common, Path(folder), sent.name)
        shard = replace(piece.shard, run=replace(run, table=sent.table, classes=sent.classes))
        compute_shard(replace(piece, shard=shard, path=run.models / piece.path.name))
        return RemoteResult(None, collect_new_files(run.folder, common))


def error_of_failures(failed: Sequence[FailedTask], pieces: int) -> Exception:
    """What to raise for pieces that could not be done, of so many: the reason alone where all have the same.

    Where none could be done and the machine is why, such as a full disk, that is what the exit code says.
    """
    reasons: dict[str, list[str]] = {}
    for each in failed:
        reasons.setdefault(each.reason, []).append(str(each.piece))
    if len(reasons) == 1 and len(failed) == pieces:
        return failed[0].error
    told = "".join(f"\n{format_list(names, 4)}: {reason}" for reason, names in reasons.items())
    errors = [each.error for each in failed]
    mend = dict.fromkeys(error.next_step for error in errors if isinstance(error, UserError) and error.next_step)
    machine = len(failed) == pieces and all(isinstance(error, EnvironmentFailure) for error in errors)
    return (EnvironmentFailure if machine else PartialFailure)(
        f"{len(failed)} of {pieces} pieces of work failed, so their predictions are not written"
        + told.replace("\n", "\n  "),
        next_step="; ".join([*mend, "then the same command goes on: what is done is kept"]),
    )


def reorder_rows(blocks: Iterable[np.ndarray], order: np.ndarray, folder: Path, rows: int) -> Iterator[np.ndarray]:
    """The same rows in another order, through a temporary file, so that memory does not grow with their number.

    Args:
        blocks: (B, K) float64 each, N rows in all.
        order: (R,) int64 in [0, N), the row for each place.
        folder: where the temporary file is; nothing of it is left, whatever happens.
        rows: of each block that is given back.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        width = 0
        for block in blocks:
            width = block.shape[1]
            stream.write(np.ascontiguousarray(block).data)
        stream.flush()
        # Written, and only then mapped: a full disk would end a process that writes through a map.
        table = np.memmap(stream, dtype=np.float64, mode="r").reshape(-1, width)
        for start in range(0, max(1, len(order)), rows):  # A page without rows still has its columns.
            yield np.array(table[order[start : start + rows]])
