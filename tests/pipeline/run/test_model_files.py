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


def test_short_names_are_known_as_file_names_are(tmp_path: Path) -> None:
    run, settings = make_run(tmp_path, "p-2"), RunSettings(runs_folder=str(tmp_path))
    assert find_model("p-21", run, settings).stem == "p-21_epochs2", "a run that recorded no prefix keeps its names"
    (run.models / "p-2_i3_epochs9.pt").write_bytes(b"")
    (run.models / "p-2_i3_epochs_best.pt").write_bytes(b"")
    for name in ("p-2_i3", "p-2_i3.pt"):
        assert find_model(name, make_run(tmp_path, "q"), settings).name == "p-2_i3_epochs9.pt"
    (run.models / "p-2_i3_epochs10.ckpt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"p-2_i3: two models have this name\n.*epochs10.ckpt, .*epochs9.pt"):
        find_model("p-2_i3", run, settings)


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
    assert is_mapped(run, file)
