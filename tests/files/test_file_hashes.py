"""Cached hashes of files."""

import hashlib
from pathlib import Path

import pytest

from soups.files import file_hashes as hashes
from soups.files.file_hashes import hash_files, remember_hash


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read to be hashed."""
    names: list[str] = []

    def record_and_hash(name: str) -> str:
        names.append(Path(name).name)
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()

    monkeypatch.setattr(hashes, "_hash_file", record_and_hash)
    return names


def test_a_remembered_file_is_not_read_again(tmp_path: Path, read_files: list[str]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    remember_hash(one, hashlib.sha256(b"1").hexdigest(), tmp_path / "cache")
    expected = [hashlib.sha256(content).hexdigest() for content in (b"1", b"2")]
    assert hash_files([one, other], tmp_path / "cache") == expected
    assert read_files == ["other"]
    remember_hash(one, hashlib.sha256(b"1").hexdigest(), tmp_path / "cache")
    assert hash_files([one, other], tmp_path / "cache") == expected
    assert read_files == ["other"]  # The entries of other files in the folder are unchanged.


def test_a_changed_file_is_read_again(tmp_path: Path, read_files: list[str]) -> None:
    one = tmp_path / "one"
    one.write_bytes(b"1")
    remember_hash(one, hashlib.sha256(b"1").hexdigest(), tmp_path / "cache")
    one.write_bytes(b"33")
    assert hash_files([one], tmp_path / "cache") == [hashlib.sha256(b"33").hexdigest()]
    assert read_files == ["one"]


def test_a_missing_file_is_not_remembered(tmp_path: Path) -> None:
    remember_hash(tmp_path / "none", "0" * 64, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
