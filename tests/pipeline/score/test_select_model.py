"""The model of a command and its run."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.files.atomic import write_table
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.score.select_model import select_model
from soups.pipeline.settings.commands import CommandSettings, RunSettings
from tests.pipeline.small_run import make_run


def test_a_model_is_found_with_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    record_run(run.folder, run.recorded)
    write_table(run.folder / "samples.csv", run.samples)
    settings = CommandSettings(run=RunSettings(name="p", runs_folder=str(tmp_path / "runs")))
    file = run.models / "p1_epochs2.safetensors"
    for name in (str(file), "p1_epochs2"):
        path, found = select_model(settings, frozenset(), name)
        assert path == file and found is not None and found.folder == run.folder
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(file.read_bytes())
    assert select_model(settings, frozenset(), str(alone)) == (alone, None)
    with pytest.raises(UsageError, match="p7: no such model"):
        select_model(settings, frozenset(), "p7")
