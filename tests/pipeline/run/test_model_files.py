"""The file of a model's name, and the run of a file."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.pipeline.run.model_files import find_model, is_mapped, run_folder_of
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import RunSettings
from tests.pipeline.small_run import make_run


def test_a_name_is_found_in_the_location_then_in_the_run_then_in_all_runs(tmp_path: Path) -> None:
    run, other = make_run(tmp_path), make_run(tmp_path, "q")
    settings = RunSettings(runs_folder=str(tmp_path))
    file = run.models / "p1_epochs2.safetensors"
    assert [find_model(name, run, settings) for name in ("p1_epochs2", "p1_epochs2.pt", str(file))] == [file] * 3
    assert find_model("q0_epochs2", run, settings) == other.models / "q0_epochs2.safetensors"
    (tmp_path / "p1_epochs2.pt").write_bytes(b"")
    located = settings.model_copy(update={"model_location": str(tmp_path)})
    assert find_model("p1_epochs2", run, located) == tmp_path / "p1_epochs2.pt"


def test_unknown_and_ambiguous_names(tmp_path: Path) -> None:
    run, settings = make_run(tmp_path), RunSettings(runs_folder=str(tmp_path))
    with pytest.raises(UsageError, match=r"p7: no such model\n.*a path, or one of p0_epochs2, p10_epochs2"):
        find_model("p7", run, settings)
    (run.models / "p1_epochs2.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="p1_epochs2: two models have this name"):
        find_model("p1_epochs2", run, settings)


def test_the_run_of_a_file(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    file = run.models / "p1_epochs2.safetensors"
    assert run_folder_of(file) is None, "a run exists once its settings do"
    record_run(run.folder, run.recorded)
    assert run_folder_of(file) == run.folder
    assert run_folder_of(tmp_path / "p1_epochs2.safetensors") is None
    assert is_mapped(file)
