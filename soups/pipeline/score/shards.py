"""Predicts test images in shards: each pair of model and shard is one task, run on any worker, with stored logits."""

import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from soups.checkpoints.card import Card
from soups.core.errors import EnvironmentFailure, PartialFailure, UserError
from soups.core.labels import LabelSpace
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry
from soups.data.images.streaming import StreamedImages
from soups.data.layouts.image_files import format_list
from soups.data.samples import set_rows
from soups.evaluation.logits import image_stamps, read_logits, stamped_path
from soups.pipeline.run.images import image_paths
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.transfer import Files, RemoteResult, collect_new_files, pack_run, store_results, unpack_run
from soups.runtime.launchers import make_launcher
from soups.runtime.workers import worker_number

logger = logging.getLogger(__name__)

SET = "test"
"""The set to predict."""
_FREE_SHARE = 0.1
"""Share of a disk that cached pixels leave free for the logits."""


@dataclass(frozen=True, kw_only=True)
class ShardContext(RunContext):
    """A context whose run contains only one shard of the test images."""

    number: int
    """Number of this shard, from 1."""
    of: int
    """Number of shards."""
    start: int
    """Index of this shard's first image among all test images, from 0."""
    images: int
    """Number of all test images."""
    stamp: str
    """Fingerprint of the image files of this shard, as they were when it was cut."""
    whole_stamp: str
    """Fingerprint of the image files of all shards."""
    alone: bool
    """Whether only one model predicts the images, so that caching their pixels would save nothing."""

    @property
    def rows(self) -> slice:
        """Rows of this shard among all test images."""
        return slice(self.start, self.start + len(self.run.samples))

    def has_logits(self, path: Path, space: LabelSpace) -> bool:
        """Returns whether a model's logits are stored, of the shard or of all test images."""
        own = read_logits(self._logits_path(path, SET), len(self.run.samples), len(space), mapped=True)
        return own is not None or self._logits_of_all(path, len(space)) is not None

    def _logits_path(self, path: Path, set_name: str, stamp: str | None = None) -> Path:
        folder, digest = self.run.folder / "logits", self.run.sha256(path)
        return stamped_path(folder, digest, set_name, stamp or self.stamp, self.runtime)

    def _logits_of_all(self, path: Path, classes: int) -> np.ndarray | None:
        return read_logits(self._logits_path(path, SET, self.whole_stamp), self.images, classes, mapped=True)

    def _read_stored(self, file: Path, path: Path, set_name: str, classes: int) -> np.ndarray | None:
        own = super()._read_stored(file, path, set_name, classes)
        whole = self._logits_of_all(path, classes) if own is None else None
        return own if whole is None else np.array(whole[self.rows])

    def _open_images(self, name: str, card: Card) -> Images:
        if self.of == 1:
            return super()._open_images(name, card)
        paths, geometry = image_paths(self.run.samples, self.run), evaluation_geometry(card.preprocessing)
        if not self._caches_pixels(3 * len(paths) * geometry.crop**2):
            return StreamedImages(paths, geometry)
        # A folder per shard: the index of a common folder, with the files of all shards, would be read and written for
        # each.
        return open_images(paths, geometry, self.cache.cache, self.run.image_cache / self.stamp)

    def _caches_pixels(self, size: int) -> bool:
        if self.cache.cache != "auto":
            return self.cache.cache == "on"
        folder = self.run.image_cache
        disk = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists()))
        return not self.alone and disk.free - size > _FREE_SHARE * disk.total


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
    """A task that failed."""

    task: ShardTask
    error: Exception
    """An error of the user, of the machine, or of this program."""

    @property
    def reason(self) -> str:
        """The cause as text."""
        if not isinstance(self.error, UserError):
            return f"{type(self.error).__name__}: {self.error}"
        return self.error.problem + (f"\n  found: {self.error.found}" if self.error.found else "")


def split_into_shards(context: RunContext, size: int, models: int) -> list[ShardContext]:
    """Returns the test images of a run in shards, in their order.

    Args:
        context: the run.
        size: images per shard; rounded up to whole batches, so that shards do not change the logits.
        models: number of models that will predict the images.

    Raises:
        DataError: an image file does not exist.
    """
    rows, batch = set_rows(context.run.samples, SET).reset_index(drop=True), context.evaluation.eval_batch_size
    size = -(-size // batch) * batch
    starts = range(0, len(rows), size)
    whole_stamp, own_stamps = image_stamps(image_paths(rows, context.run), size)
    common = {field.name: getattr(context, field.name) for field in fields(RunContext) if field.name != "run"}
    common |= {"of": len(starts), "images": len(rows), "whole_stamp": whole_stamp, "alone": models == 1}
    shards = []
    for number, (start, stamp) in enumerate(zip(starts, own_stamps, strict=True), start=1):
        run = replace(context.run, table=rows.iloc[start : start + size], classes=context.run.space)
        shards.append(ShardContext(run=run, number=number, start=start, stamp=stamp, **common))
    return shards


def compute_missing(shards: Sequence[ShardContext], models: Mapping[Path, LabelSpace]) -> list[FailedTask]:
    """Compute and store the missing logits of models on shards; returns the tasks that failed.

    Args:
        shards: all shards of a run.
        models: file → classes in the requested order.
    """
    tasks = [ShardTask(shard, path, space) for path, space in models.items() for shard in shards]
    missing = [task for task in tasks if not task.shard.has_logits(task.path, task.space)]
    if len(shards) > 1:
        logger.info(
            "%d images in %d shards of %d, %d model%s: %d of %d tasks are done already",
            *(shards[0].images, len(shards), len(shards[0].run.samples)),
            *(len(models), "s" * (len(models) > 1), len(tasks) - len(missing), len(tasks)),
        )
    failed = []
    for finished, (task, result) in enumerate(_run_tasks(missing), start=1):
        if isinstance(result, Exception):
            failed.append(FailedTask(task, result))
            trace = None if isinstance(result, UserError) else result
            logger.warning("%s: failed (%d of %d)", task, finished, len(missing), exc_info=trace)
        elif len(shards) > 1:
            logger.info("%s: done (%d of %d)", task, finished, len(missing))
    return failed


def compute_shard(task: ShardTask) -> None:
    """Compute the logits of a task and store them atomically."""
    shard = replace(task.shard, runtime=task.shard.runtime.for_worker(worker_number()))
    shard.logits(task.path, [SET], task.space)


def _run_tasks(tasks: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Exception | None]]:
    """Yields the tasks as they end, run by the launcher of the shards."""
    if not tasks:  # Avoids connecting to a cluster without work.
        return
    shard = tasks[0].shard
    launcher = make_launcher(shard.launch, shard.runtime)
    if not shard.launch.no_shared_storage:
        yield from launcher.run_all(compute_shard, tasks)
        return
    packed = pack_run(shard.run)
    for path in dict.fromkeys(task.path for task in tasks):  # Each model is sent to each machine once.
        with_model = {**packed, f"models/{path.name}": path.read_bytes()}
        own_tasks = [task for task in tasks if task.path == path]
        yield from store_results(launcher.run_all(_compute_unpacked, own_tasks, with_model), shard.run)


def _compute_unpacked(task: ShardTask, common: Files) -> RemoteResult:
    with TemporaryDirectory() as folder:
        sent = task.shard.run
        run = unpack_run(common, Path(folder), sent.name)
        shard = replace(task.shard, run=replace(run, table=sent.table, classes=sent.classes))
        compute_shard(replace(task, shard=shard, path=run.models / task.path.name))
        return RemoteResult(None, collect_new_files(run.folder, common))


def error_of_failures(failed: Sequence[FailedTask], tasks: int) -> Exception:
    """Returns the error to raise for failed tasks: the only reason itself if all tasks share it.

    Args:
        failed: the failed tasks.
        tasks: number of all tasks.

    Returns:
        `EnvironmentFailure` if every task failed because of the machine, such as a full disk; its exit code says
        so.
    """
    reasons: dict[str, list[str]] = {}
    for each in failed:
        reasons.setdefault(each.reason, []).append(str(each.task))
    if len(reasons) == 1 and len(failed) == tasks:
        return failed[0].error
    details = "".join(f"\n{format_list(names, 4)}: {reason}" for reason, names in reasons.items())
    errors = [each.error for each in failed]
    next_steps = dict.fromkeys(error.next_step for error in errors if isinstance(error, UserError) and error.next_step)
    is_environment = len(failed) == tasks and all(isinstance(error, EnvironmentFailure) for error in errors)
    return (EnvironmentFailure if is_environment else PartialFailure)(
        f"{len(failed)} of {tasks} tasks failed, so their predictions are not written" + details.replace("\n", "\n  "),
        next_step="; ".join([*next_steps, "then run the same command again: finished tasks are reused"]),
    )


def reorder_rows(blocks: Iterable[np.ndarray], order: np.ndarray, folder: Path, rows: int) -> Iterator[np.ndarray]:
    """Yields rows in another order through a temporary file, so that memory does not grow with their number.

    Args:
        blocks: (B, K) float64 each, N rows in all.
        order: (R,) int64 in [0, N), the row for each position.
        folder: folder of the temporary file, which is always removed.
        rows: rows of each returned block.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        width = 0
        for block in blocks:
            width = block.shape[1]
            stream.write(np.ascontiguousarray(block).data)
        stream.flush()
        # The file is written first and mapped afterwards: writing through a map ends the process if the disk is full.
        table = np.memmap(stream, dtype=np.float64, mode="r").reshape(-1, width)
        for start in range(0, max(1, len(order)), rows):  # An empty page still has its columns.
            yield np.array(table[order[start : start + rows]])
