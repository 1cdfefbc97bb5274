"""Packs the files of a run for machines that do not share its folder, and stores the files that such a machine made.

The remote function itself belongs to the caller (`train/remote`, `score/evaluate`, `score/shards`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from soups.core.errors import UsageError
from soups.files.atomic import atomic_write
from soups.files.jsonl import append_record
from soups.pipeline.run.run import Run, require_run
from soups.pipeline.run.run_settings import FILE, record_run
from soups.pipeline.settings.commands import RunSettings

Files = Mapping[str, bytes]
"""Path relative to a run's folder → content."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class RemoteResult:
    """The result of a remote call and the files that it made."""

    result: Any
    files: Files


class LazyFile:
    """A file that is read when it is pickled, so that the models of a pool are not all in memory at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (self._path.read_bytes(),)

    def __bytes__(self) -> bytes:
        return self._path.read_bytes()


def pack_run(run: Run) -> Files:
    """Returns the files that every remote call on a run needs: its settings, its samples and its start.

    Raises:
        UsageError: the images are not named by an absolute path, or the run's checkpoints are foreign.
    """
    if run.recorded.foreign is not None:
        raise UsageError(
            "--no-shared-storage: checkpoints from other tools are not sent to other machines",
            next_step="put them on shared storage and leave --no-shared-storage out",
        )
    for location in run.recorded.data.locations:
        if not Path(location).is_absolute():
            raise UsageError(
                f"--no-shared-storage: the run's data location is the relative path {location}",
                expected="an absolute path, the same on each machine",
                next_step="start a run with an absolute --data-location, or share the folder between the machines",
            )
    with TemporaryDirectory() as folder:
        record_run(Path(folder), run.recorded)
        settings = (Path(folder) / FILE).read_bytes()
    files = {FILE: settings, "samples.csv": (run.folder / "samples.csv").read_bytes()}
    if run.start.exists():
        files[f"models/{run.start.name}"] = run.start.read_bytes()
    return files


def unpack_run(files: Files, runs_folder: Path, name: str) -> Run:
    """Write packed files below `runs_folder` and return their run."""
    for relative, content in files.items():
        path = runs_folder / name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return require_run(RunSettings(runs_folder=str(runs_folder)), name)


def collect_new_files(folder: Path, sent: Files) -> Files:
    """Returns the files of a run's folder that were not sent, without hidden ones (locks)."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    hidden = {relative for relative in paths if any(part.startswith(".") for part in relative.split("/"))}
    return {relative: path.read_bytes() for relative, path in paths.items() if relative not in sent.keys() | hidden}


def store_results(
    results: Iterable[tuple[Item, RemoteResult | Exception]], run: Run
) -> Iterator[tuple[Item, Any | Exception]]:
    """Yields each item with the result of its remote call, whose files are stored, or with its exception."""
    for item, remote in results:
        if isinstance(remote, RemoteResult):
            store_files(remote.files, run)
        yield item, remote.result if isinstance(remote, RemoteResult) else remote


def store_files(files: Files, run: Run) -> None:
    """Write returned files into a run: log lines are appended, other files are written atomically, models last."""
    for relative, content in sorted(files.items(), key=lambda file: file[0].startswith("models/")):
        if relative.endswith(".jsonl"):
            for line in content.splitlines():
                append_record(run.folder / relative, json.loads(line))
            continue
        path = run.models / Path(relative).name if relative.startswith("models/") else run.folder / relative
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
