"""Files that are named like checkpoints and are none."""

from pathlib import Path

import pytest

from soups.checkpoints.other_files import check_is_no_other_file
from soups.core.errors import DataError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"an empty file(?s:.*)copy or download it again"),
        (b" \n", r"an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n",
            r"a Git LFS pointer(?s:.*)git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>", r"an HTML page(?s:.*)download it again"),
        (b"\xef\xbb\xbf<HTML>", r"an HTML page"),
        (b"<?xml version='1.0'?><Error>", r"an XML document"),
        (b'{"architectures": ["ViT"]}', r"a JSON document(?s:.*)the file of the weights"),
    ],
)
def test_what_a_file_clearly_is_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.pth: not a checkpoint(?s:.*)found:    " + words):
        check_is_no_other_file(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x80\x02}q\x00.", b"\x98\x01\x00\x00\x00\x00\x00\x00{}"])
def test_checkpoints_pass(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    check_is_no_other_file(path)
