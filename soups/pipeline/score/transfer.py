"""Work on machines that don't see the run's folder: what a model needs is sent along, what it made comes back."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from soups.core.errors import UsageError
from soups.files.atomic import append_record, whole_file
from soups.pipeline.run.run import Run, existing_run
from soups.pipeline.run.run_settings import FILE, record_run
from soups.pipeline.score.evaluate import Bench, score_model
from soups.pipeline.score.shards import Piece
from soups.pipeline.settings.commands import RunSettings
from soups.pipeline.train.plan import Task
from soups.runtime.launchers import Launcher

Files = Mapping[str, bytes]
"""Place in a run's folder → content."""


@dataclass(frozen=True)
class Parcel:
    """What comes back."""

    result: Any
    files: Files
    """Those that were made."""


def fetched(
    launcher: Launcher, train: Callable[[Task], Path], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Path | Exception]]:
    """Fine-tunes trained elsewhere, their files written here as they come.

    Args:
        launcher: where.
        train: one of them.
        tasks: the fine-tunes.

    Raises:
        UsageError: the images are not named by an absolute path.
    """
    runs = {task.run_name: _run_of(task) for task in tasks}
    common = {name: _luggage(run, [run.start]) for name, run in runs.items()}
    for task, parcel in launcher.run_all(partial(_trained, train), tasks, common):
        if isinstance(parcel, Exception):
            yield task, parcel
            continue
        run = runs[task.run_name]
        _unpack(parcel.files, run)
        path = run.models / parcel.result
        if task.replaces is not None and task.replaces != path:
            task.replaces.unlink(missing_ok=True)
        yield task, path


def fetched_scores(
    launcher: Launcher, bench: Bench, tasks: Sequence[tuple[Bench, Path]]
) -> Iterator[tuple[tuple[Bench, Path], dict[str, Any] | Exception]]:
    """Lines of models scored elsewhere; their logits are kept here as they come.

    Raises:
        UsageError: the images are not named by an absolute path, or the run's models were made elsewhere.
    """
    run = bench.run
    by_name = {path.name: task for task in tasks for _, path in [task]}
    items = [_Scoring(run.name, replace(bench, run=None), path.name, _Lazy(path)) for _, path in tasks]  # type: ignore[arg-type]
    for item, parcel in launcher.run_all(_scored, items, _luggage(run, [run.start])):
        if isinstance(parcel, Exception):
            yield by_name[item.file], parcel
            continue
        _unpack(parcel.files, run)
        yield by_name[item.file], parcel.result


def fetched_logits(
    launcher: Launcher, compute: Callable[[Piece], None], pieces: Sequence[Piece]
) -> Iterator[tuple[Piece, Exception | None]]:
    """Logits computed elsewhere, kept here as they come; a model is sent to each machine once.

    Raises:
        UsageError: the images are not named by an absolute path, or the run's models were made elsewhere.
    """
    run = pieces[0].shard.run
    luggage = _luggage(run, [run.start])
    for path in dict.fromkeys(piece.path for piece in pieces):
        common = {**luggage, f"models/{path.name}": path.read_bytes()}
        own = [piece for piece in pieces if piece.path == path]
        for piece, parcel in launcher.run_all(partial(_computed, compute), own, common):
            if isinstance(parcel, Exception):
                yield piece, parcel
                continue
            _unpack(parcel.files, run)
            yield piece, None


@dataclass(frozen=True)
class _Scoring:
    run_name: str
    bench: Bench
    """Without its run, which is laid out where the model is scored."""
    file: str
    content: Any
    """Bytes of the model, or what becomes them on the way."""


class _Lazy:
    """A file that is read when it is sent, so that not all of a pool are in memory at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (self._path.read_bytes(),)

    def __bytes__(self) -> bytes:
        return self._path.read_bytes()


def _run_of(task: Task) -> Run:
    run = existing_run(task.settings.run, task.run_name)
    assert run is not None
    return run


def _luggage(run: Run, models: Sequence[Path]) -> Files:
    """What every model of a run needs.

    Raises:
        UsageError: the images are not named by an absolute path, or the run's models were made elsewhere.
    """
    if run.recorded.foreign is not None:
        raise UsageError(
            "--no-shared-storage: the run's checkpoints were made elsewhere, and are not sent along",
            next_step="put them on shared storage and leave --no-shared-storage out",
        )
    for location in run.recorded.data.locations:
        if not Path(location).is_absolute():
            raise UsageError(
                f"--no-shared-storage: the run names its images by {location}",
                expected="an absolute path, the same on each machine",
                next_step="start a run with an absolute --data-location, or share the folder between the machines",
            )
    with TemporaryDirectory() as folder:
        record_run(Path(folder), run.recorded)
        settings = (Path(folder) / FILE).read_bytes()
    files = {FILE: settings, "samples.csv": (run.folder / "samples.csv").read_bytes()}
    return {**files, **{f"models/{path.name}": path.read_bytes() for path in models if path.exists()}}


def _trained(train: Callable[[Task], Path], task: Task, common: Mapping[str, Files]) -> Parcel:
    with TemporaryDirectory() as folder:
        runs = RunSettings(name=task.run_name, runs_folder=folder)
        here = Path(folder) / task.run_name
        _lay_out(common[task.run_name], here)
        path = train(replace(task, settings=task.settings.model_copy(update={"run": runs}), replaces=None))
        return Parcel(path.name, _made(here, common[task.run_name]))


def _scored(work: _Scoring, common: Files) -> Parcel:
    with TemporaryDirectory() as folder:
        here = Path(folder) / work.run_name
        files = {**common, f"models/{work.file}": bytes(work.content)}
        _lay_out(files, here)
        run = existing_run(RunSettings(runs_folder=folder), here.name)
        assert run is not None
        line = score_model((replace(work.bench, run=run), run.models / work.file))
        return Parcel(line, _made(here, files))


def _computed(compute: Callable[[Piece], None], piece: Piece, common: Files) -> Parcel:
    with TemporaryDirectory() as folder:
        sent = piece.shard.run
        here = Path(folder) / sent.name
        _lay_out(common, here)
        run = existing_run(RunSettings(runs_folder=folder), here.name)
        assert run is not None
        shard = replace(piece.shard, run=replace(run, table=sent.table, classes=sent.classes))
        compute(replace(piece, shard=shard, path=run.models / piece.path.name))
        return Parcel(None, _made(here, common))


def _lay_out(files: Files, folder: Path) -> None:
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)


def _made(folder: Path, before: Files) -> Files:
    """The files that were not there before, without locks."""
    places = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    hidden = {place for place in places if any(part.startswith(".") for part in place.split("/"))}
    return {place: path.read_bytes() for place, path in places.items() if place not in before.keys() | hidden}


def _unpack(files: Files, run: Run) -> None:
    """Write what came back: logs are gone on with, other files appear whole; models last, as where they are made."""
    for place, content in sorted(files.items(), key=lambda file: file[0].startswith("models/")):
        if place.endswith(".jsonl"):
            for line in content.splitlines():
                append_record(run.folder / place, json.loads(line))
            continue
        path = run.models / Path(place).name if place.startswith("models/") else run.folder / place
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
