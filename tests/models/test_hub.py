"""Downloads from a reachable and an unreachable hub."""

import pytest

from soups.core.errors import DataError, EnvironmentFailure
from soups.models import hub


def test_an_unreachable_hub_leaves_the_offline_setting_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(hub, "_find_hub_problem", lambda: "no route")
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    assert hub.fetch_from_hub(lambda: huggingface_hub.constants.HF_HUB_OFFLINE, "x") is True
    assert huggingface_hub.constants.HF_HUB_OFFLINE is before
    with pytest.raises(EnvironmentFailure, match=r"could not fetch x(.|\n)*no route(.|\n)*elsewhere"):
        hub.fetch_from_hub(lambda: 1 / 0, "x", next_step="elsewhere")
    assert huggingface_hub.constants.HF_HUB_OFFLINE is before


def test_a_reachable_hub_is_used_and_its_failures_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_find_hub_problem", lambda: "")
    assert hub.fetch_from_hub(lambda: 3, "x") == 3

    def fail() -> None:
        raise KeyError("no such repository")

    with pytest.raises(EnvironmentFailure, match=r"could not fetch x(.|\n)*no such repository(.|\n)*--pretrained FILE"):
        hub.fetch_from_hub(fail, "x")


def test_errors_of_our_own_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_find_hub_problem", lambda: "")

    def refuse() -> None:
        raise DataError("fetched, but damaged")

    with pytest.raises(DataError, match="fetched, but damaged"):
        hub.fetch_from_hub(refuse, "x")
