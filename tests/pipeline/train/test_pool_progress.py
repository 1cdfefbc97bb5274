"""Progress of a pool: epochs counted from logs, without the line that is being written."""

from pathlib import Path

from soups.files.atomic import fingerprint
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.plan import Task
from soups.pipeline.train.pool_progress import PoolProgress
from tests.pipeline.small_run import RUNTIME, make_run


def test_epochs_are_counted_from_the_logs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    settings = FinetuneSettings.model_validate({"run": {"runs_folder": str(tmp_path)}, "training": {"epochs": 4}})
    first, second = (Task(index, settings.training, settings, run.name, RUNTIME) for index in (0, 1))
    progress = PoolProgress([first, second])
    assert (progress.epochs, progress.count_done(), progress.is_live) == (8, 0, False)
    log, key = run.training_log(0), fingerprint(first.record)
    log.parent.mkdir(parents=True)
    log.write_text(
        f'{{"settings": "other", "epoch": 4}}\n{{"settings": "{key}", "epoch": 2}}\n{{"settings": "{key}", "epo'
    )
    assert progress.count_done() == 2
    log.write_text("torn\n")
    assert progress.count_done() == 0
    progress.finish(second)
    assert progress.count_done() == 4
