"""Shared by the tests of `soups.data`."""

import logging

import pytest


@pytest.fixture(autouse=True)
def heard_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `caplog` hear the toolkit's notices, whatever a command run earlier in this process set up."""
    monkeypatch.setattr(logging.getLogger("soups"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("soups"), "level", logging.NOTSET)
