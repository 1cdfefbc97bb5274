"""New runs: their names, also among several processes, and what is refused before anything is written."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.pipeline.run import create
from soups.pipeline.settings.commands import FinetuneSettings, RunSettings


def test_a_new_run_needs_data(tmp_path: Path) -> None:
    settings = FinetuneSettings(run=RunSettings(name="a", runs_folder=str(tmp_path)))
    with pytest.raises(UsageError, match=r"--data-location is missing(?s:.*)--name a --data-location DIR"):
        create.create_run(settings, frozenset())
    assert not (tmp_path / "a").exists()


def test_processes_at_the_same_time_get_different_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(settings: FinetuneSettings, name: str) -> None:
        assert name not in made
        time.sleep(0.05)  # Long enough that both would look in between.
        made.append(name)
        (tmp_path / name).mkdir()

    made: list[str] = []
    monkeypatch.setattr(create, "_make_run", slowly)
    monkeypatch.setattr(create, "existing_run", lambda run, name: name if (tmp_path / name).exists() else None)
    monkeypatch.setattr(create, "require_run", lambda run, name: name)
    (tmp_path / "digits-3").mkdir()  # Whatever it is, it is in the way.
    flags = ["--name", "digits", "--new", "--runs-folder", str(tmp_path)]
    settings = cli.parse(FinetuneSettings, flags, {}).settings
    found: list[Any] = []
    each = [threading.Thread(target=lambda: found.append(create.create_run(settings, frozenset()))) for _ in range(4)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    assert sorted(found) == sorted(made) == ["digits", "digits-2", "digits-4", "digits-5"]
