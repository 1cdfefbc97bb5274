"""Removal of checkpoints that no soup and no ranking needs."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from soups.pipeline.search.soup_gain import remove_surplus_checkpoints


def test_surplus_checkpoints_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = [tmp_path / f"toys{number}_epochs1.safetensors" for number in range(5)]
    for file in files:
        file.touch()
    context = SimpleNamespace(run=SimpleNamespace(models=tmp_path / "without_soups"))
    soup_gain = SimpleNamespace(context=context, ingredients=lambda paths: frozenset({"toys3_epochs1"}))
    assert remove_surplus_checkpoints(soup_gain, files, 5) == []  # type: ignore[arg-type]
    assert remove_surplus_checkpoints(soup_gain, files, 3) == [files[2], files[4]]  # type: ignore[arg-type]
    assert remove_surplus_checkpoints(soup_gain, [*files[:2], files[3]], 1) == files[:2]  # type: ignore[arg-type]
    assert [file.name for file in files if file.exists()] == ["toys3_epochs1.safetensors"]
    assert "toys4_epochs1.safetensors: removed; neither among the best 3 nor in a soup" in caplog.text
