"""The tracker of a mode: none by default, and no prompt without a login."""

from pathlib import Path

import pytest
import wandb

from soups.core.errors import EnvironmentFailure
from soups.pipeline.train import trackers


def test_disabled_by_flag_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    tracker = trackers.open_tracker("disabled", "p", "p0", {})
    tracker.log({"epoch": 1})
    tracker.show([Path("a.png")])
    tracker.close()
    assert tracker.run is None
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert trackers.open_tracker("disabled", "p", "p0", {}).run is None


def test_the_environment_decides_only_without_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(wandb, "init", lambda mode, **options: opened.append(mode))
    monkeypatch.setattr(trackers, "_require_key", lambda: opened.append("key"))
    monkeypatch.setenv("WANDB_MODE", "online")
    trackers.open_tracker("offline", "p", "p0", {})
    trackers.open_tracker("disabled", "p", "p0", {})
    assert opened == ["offline", "key", "online"]


def test_online_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(EnvironmentFailure, match="--wandb online: not logged in to Weights & Biases"):
        trackers.open_tracker("online", "p", "p0", {})
