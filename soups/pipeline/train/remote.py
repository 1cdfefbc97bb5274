"""Fine-tunes on machines that do not share the run's folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from soups.checkpoints.card import read_card
from soups.pipeline.run.recorded_models import record_models
from soups.pipeline.score.transfer import Files, RemoteResult, collect_new_files, pack_run, store_files, unpack_run
from soups.pipeline.settings.commands import RunSettings
from soups.pipeline.train.plan import Task
from soups.runtime.launchers import Launcher


def train_remotely(
    launcher: Launcher, train: Callable[[Task], Path], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Path | Exception]]:
    """Train on other machines and write the files of each fine-tune here as it finishes.

    Args:
        launcher: launcher for the machines.
        train: trains one task and returns the checkpoint's path; importable by name.
        tasks: the fine-tunes.

    Raises:
        UsageError: the images are not named by an absolute path.
    """
    runs = {task.run_name: task.open_run() for task in tasks}
    packed = {name: pack_run(run) for name, run in runs.items()}
    for task, remote in launcher.run_all(partial(_train_unpacked, train), tasks, packed):
        if isinstance(remote, Exception):
            yield task, remote
            continue
        run = runs[task.run_name]
        store_files(remote.files, run)
        path = run.models / remote.result
        if card := read_card(path):
            record_models(run, [card])
        if task.replaces is not None and task.replaces != path:
            task.replaces.unlink(missing_ok=True)
        yield task, path


def _train_unpacked(train: Callable[[Task], Path], task: Task, common: Mapping[str, Files]) -> RemoteResult:
    with TemporaryDirectory() as folder:
        run = unpack_run(common[task.run_name], Path(folder), task.run_name)
        settings = task.settings.model_copy(update={"run": RunSettings(name=task.run_name, runs_folder=folder)})
        path = train(replace(task, settings=settings, replaces=None))
        return RemoteResult(path.name, collect_new_files(run.folder, common[task.run_name]))
