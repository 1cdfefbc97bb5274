"""A run whose images were moved goes on; a dry run and a refused command record nothing."""

from pathlib import Path

from tools.tried_cases.case import TINY, draw_classes, run_here


def test_a_move_is_recorded_only_by_a_command_that_goes_on(tmp_path: Path) -> None:
    draw_classes(tmp_path / "data" / "train", ("cat", "dog"), 8)
    flags = [*TINY.split(), "--name", "toy"]
    assert run_here("finetune", ["--data-location", "data", *flags], tmp_path)[0] == 0
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    settings = tmp_path / "runs" / "toy" / "settings.yaml"
    before = settings.read_text()
    moved = ["--data-location", "elsewhere", *flags]
    code, text = run_here("finetune", [*moved, "--dry-run"], tmp_path)
    assert code == 0 and "elsewhere" in text and settings.read_text() == before
    code, text = run_here("finetune", [*moved, "--val-ratio", "0.5"], tmp_path)
    assert code == 2 and settings.read_text() == before
    code, text = run_here("finetune", [*moved, "--i", "1"], tmp_path)
    assert code == 0 and "its images are read from elsewhere from now on (recorded: data)" in " ".join(text.split())
    assert settings.read_text() != before
