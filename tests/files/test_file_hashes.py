"""Remembered hashes."""

import hashlib
from pathlib import Path

import pytest

from soups.files import file_hashes as hashes
from soups.files.file_hashes import hash_files, remember_hash


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read to be hashed."""
    names: list[str] = []

    def hash_and_tell(name: str) -> str:
        names.append(Path(name).name)
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()

    monkeypatch.setattr(hashes, "_hash", hash_and_tell)
    return names


def test_what_was_hashed_when_written_is_not_read_again(tmp_path: Path, read_files: list[str]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    remember_hash(one, hashlib.sha256(b"1").hexdigest(), tmp_path / "memory")
    expected = [hashlib.sha256(content).hexdigest() for content in (b"1", b"2")]
    assert hash_files([one, other], tmp_path / "memory") == expected
    assert read_files == ["other"]
    remember_hash(one, hashlib.sha256(b"1").hexdigest(), tmp_path / "memory")
    assert hash_files([one, other], tmp_path / "memory") == expected
    assert read_files == ["other"]  # What was known of the folder's other files stays known.


def test_a_remembered_file_that_changes_is_read(tmp_path: Path, read_files: list[str]) -> None:
    one = tmp_path / "one"
    one.write_bytes(b"1")
    remember_hash(one, hashlib.sha256(b"1").hexdigest(), tmp_path / "memory")
    one.write_bytes(b"33")
    assert hash_files([one], tmp_path / "memory") == [hashlib.sha256(b"33").hexdigest()]
    assert read_files == ["one"]


def test_a_file_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    remember_hash(tmp_path / "none", "0" * 64, tmp_path / "memory")
    assert not (tmp_path / "memory").exists()
