"""Files that are clearly no checkpoints although they are named like one: pages, pointers, empty files."""

from pathlib import Path

from soups.core.errors import DataError

_SAMPLE = 1024
_GIT_LFS = b"version https://git-lfs.github.com/spec/"


def check_is_no_other_file(path: Path) -> None:
    """Raise if the first bytes of a file show that it is no checkpoint but something else.

    Raises:
        DataError: the file is empty, a Git LFS pointer, an HTML page, XML or JSON; the message says how to get the
            checkpoint.
    """
    with path.open("rb") as stream:
        begin = stream.read(_SAMPLE).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not begin:
        raise _not_a_checkpoint(path, "an empty file", "copy or download it again")
    if begin.startswith(_GIT_LFS):
        raise _not_a_checkpoint(path, "a Git LFS pointer, which names the file", "in its repository: git lfs pull")
    lower = begin.lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        raise _not_a_checkpoint(path, "an HTML page", "download it again: a site answered with a page, such as a login")
    if lower.startswith((b"<?xml", b"<error")):
        raise _not_a_checkpoint(path, "an XML document", "download it again: a server answered with a message")
    if begin[:1] in b"{[" and begin.isascii() and b"\0" not in begin:
        raise _not_a_checkpoint(path, "a JSON document", "use the file of the weights beside it")


def _not_a_checkpoint(path: Path, found: str, next_step: str) -> DataError:
    return DataError(f"{path}: not a checkpoint", found=found, next_step=next_step)
