"""Folders in open_clip's hub layout."""

from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError
from soups.models.build import build_start
from soups.models.settings import ModelSettings

CLASSES = ("cat", "polar_bear", "zero {}")


def folder_settings(folder: Path, **changes: Any) -> ModelSettings:
    return ModelSettings(model=f"local-dir:{folder}", **changes)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (None, None, "no such folder"),
        ("x", "{}", r"open_clip_config\.json: no such file"),
        ("open_clip_config.json", "{", "not readable JSON"),
        ("open_clip_config.json", '{"model_cfg": {"embed_dim": NaN}}', "not readable JSON"),
        ("open_clip_config.json", "[]", "not open_clip's\n  expected: `model_cfg`"),
        ("open_clip_config.json", '{"model_cfg": {"embed_dim": 8}}', "not open_clip's"),
    ],
)
def test_folders_that_are_no_clip(tmp_path: Path, name: str | None, content: str, said: str) -> None:
    folder = tmp_path / "clip"
    if name is not None:
        folder.mkdir()
        (folder / name).write_text(content)
    with pytest.raises(DataError, match=said):
        build_start(folder_settings(folder), CLASSES, seed=0)
