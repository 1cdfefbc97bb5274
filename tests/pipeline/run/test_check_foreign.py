"""Checks of a foreign pool: which files are checked, what is recorded, and how failures are reported."""

import logging
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError
from soups.files.jsonl import read_records
from soups.pipeline.run import check_foreign
from soups.pipeline.run.model_files import reads_as_float32


class FakePool:
    """A run whose checkpoints are `names`; every file is its own hash."""

    name = "pool"

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names

    def finetunes(self) -> dict[Path, None]:
        return {Path(f"{name}.pt"): None for name in self.names}

    def hashes(self, paths: Any) -> list[str]:
        return [path.stem for path in paths]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the checked files; a name that begins with `bad` is not a checkpoint."""
    names: list[str] = []

    def check_file(run: Any, path: Path) -> check_foreign.NotesAndLayout:
        names.append(path.stem)
        if path.stem.startswith("bad"):
            raise DataError(f"{path}: not a checkpoint")
        return ("dropped fc",), {}

    monkeypatch.setattr(check_foreign, "_check_file", check_file)
    monkeypatch.setattr(check_foreign, "check_layouts", lambda layouts: None)
    return names


def test_each_file_is_checked_once(tmp_path: Path, checked: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check_foreign.check_members(FakePool(tmp_path, ["a", "b"]))  # type: ignore[arg-type]
    assert checked == ["a", "b"] and "a.pt and 1 more: dropped fc" in caplog.text
    (tmp_path / "settings.yaml").write_text("")
    check_foreign.check_members(FakePool(tmp_path, ["a", "b", "c"]))  # type: ignore[arg-type]
    assert checked == ["a", "b", "c", "a"], "a new file is compared with one known file"
    assert [line["model_name"] for line in read_records(tmp_path / "logs" / "foreign.jsonl")] == ["a", "b", "c"]
    check_foreign.check_members(FakePool(tmp_path, ["a", "b", "c"]))  # type: ignore[arg-type]
    assert len(checked) == 4


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "bad1"], r"^bad1.pt: not a checkpoint$"),
        (["a", "bad1", "bad2"], "bad1.pt: not a checkpoint\nbad2.pt: not a checkpoint"),
        (["bad1", "bad2"], "none of the 2 checkpoints fits; the first: bad1.pt"),
    ],
)
@pytest.mark.usefixtures("checked")
def test_failures_are_reported(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_foreign.check_members(FakePool(tmp_path, names))  # type: ignore[arg-type]
    assert not (tmp_path / "logs").exists()


@pytest.mark.usefixtures("checked")
def test_one_fitting_file_is_enough_for_an_inspection(tmp_path: Path) -> None:
    check_foreign.check_any_member(FakePool(tmp_path, ["bad1", "a"]))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none of the 1 checkpoints fits; the first: bad1\.pt"):
        check_foreign.check_any_member(FakePool(tmp_path, ["bad1"]))  # type: ignore[arg-type]


def test_several_dtypes_are_read_as_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dtypes = {"a": "float16", "b": "float32", "c": "bfloat16"}
    layouts = {name: {"w": ((2,), dtype), "steps": ((), "int64")} for name, dtype in dtypes.items()}
    monkeypatch.setattr(check_foreign, "_check_file", lambda run, path: ((), layouts[path.stem]))
    check_foreign.check_members(FakePool(tmp_path, ["a"]))  # type: ignore[arg-type]
    assert not reads_as_float32(FakePool(tmp_path, []))  # type: ignore[arg-type]
    check_foreign.check_members(FakePool(tmp_path, ["a", "b", "c"]))  # type: ignore[arg-type]
    assert "a.pt and 1 more: half-precision weights are read as float32" in caplog.text
    assert reads_as_float32(FakePool(tmp_path, []))  # type: ignore[arg-type]
