"""What finetune shows without a flag."""

from pathlib import Path

import pytest

from soups import commands
from soups.files.atomic import write_text
from soups.pipeline.run.recorded_models import record_missing_models
from soups.pipeline.run.run_settings import record_run
from tests.pipeline.small_run import make_run


def test_without_a_run_it_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands.run("finetune", []) == 2
    text = capsys.readouterr().err
    assert "runs has no run yet" in text and "next:     python finetune.py --data-location DIR" in text
    assert not list(tmp_path.iterdir())


def test_the_last_run_and_the_commands_that_add_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("runs"))
    record_run(run.folder, run.recorded)
    record_missing_models(run)
    write_text(Path("runs/latest"), "p\n")
    before = sorted(Path().rglob("*"))
    assert commands.run("finetune", []) == 0
    text = capsys.readouterr().out
    assert "the last run is p, in runs/p; without a flag nothing is trained" in text and "3 models\n" in text
    assert "  python finetune.py --name p --i 2 --hparams random\n" in text
    assert text.endswith("  python finetune.py --name p --i 2 --config runs/p/settings.yaml#p10\n")
    assert sorted(Path().rglob("*")) == before
