"""The public start models of the model-soups paper: fetched whole, resumed where a connection broke."""

import http.client
import json
import logging
import math
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from soups.core.errors import EnvironmentFailure, UsageError
from soups.core.progress import track
from soups.files import atomic as records

logger = logging.getLogger(__name__)

DEFAULT_URL = "https://github.com/mlfoundations/model-soups/releases/download/v0.0.2"
MODEL_NAMES = tuple(f"model_{index}.pt" for index in range(72))
SECONDS_TO_ANSWER = 30.0
ATTEMPTS = 5
_CHUNK = 2**20
_PART = ".part"


class _Broken(Exception):
    """The connection ended, or was refused, before the whole file was there; trying again may help."""


class _Unreachable(_Broken):
    """There is no such server, or no network: waiting would not help somebody who has not begun."""


class _Stale(_Broken):
    """The server has no such part of the file."""


@dataclass(frozen=True)
class _Answer:
    """What a server's headers say of a file."""

    begin: int
    """Where in the file the body begins."""
    size: int | None
    """Bytes of the whole file, where the server says it."""
    validator: str
    """The strong ETag, else the time of change: what `If-Range` takes. Empty where there is neither."""


def download_models(
    destination: Path, base_url: str = DEFAULT_URL, names: Sequence[str] = MODEL_NAMES, pause: float = 1.0
) -> list[Path]:
    """Fetch model files that are not there yet.

    A file that was fetched before and still has its size is left alone. A partial one (`NAME.part`) is continued if
    the server still has the same file, else begun again. `NAME` appears only when it is whole.

    Args:
        destination: folder of the files; made where needed.
        base_url: what the names are appended to.
        names: the files.
        pause: seconds before the second attempt after a broken connection; doubled for each further one.

    Returns:
        The files' paths.

    Raises:
        UsageError: an address that is not http or https.
        EnvironmentFailure: the first file that could not be fetched, or written; what was fetched is kept.
    """
    if urllib.parse.urlsplit(base_url).scheme not in {"http", "https"}:
        raise UsageError(f"--download-url {base_url}: not an address of a web server", expected="https://…")
    paths = []
    for number, name in enumerate(names, start=1):
        path = destination / name
        with records.explain_write_errors(path):
            destination.mkdir(parents=True, exist_ok=True)
            with FileLock(destination / f".{name}.lock"):
                _complete(f"{base_url.rstrip('/')}/{name}", path, f"{name} ({number} of {len(names)})", pause)
        paths.append(path)
    return paths


def _complete(url: str, path: Path, description: str, pause: float) -> None:
    notes = path.with_name(f".{path.name}.json")
    if path.is_file() and (_read_notes(notes).get("finished") == path.stat().st_size or _same_size(url, path)):
        _write_notes(notes, {"finished": path.stat().st_size})
        return
    part = path.with_name(path.name + _PART)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, part, notes, description)
            break
        except _Broken as error:
            if attempt == ATTEMPTS or (isinstance(error, _Unreachable) and not part.exists()):
                raise _failure(url, path, str(error)) from error
            logger.info("%s: %s; trying again", path.name, error)
            time.sleep(pause * 2 ** (attempt - 1))
    records.replace_atomically(part, path)
    _write_notes(notes, {"finished": path.stat().st_size})


def _same_size(url: str, path: Path) -> bool:
    """Whether a file that we know nothing of is as long as the server's."""
    try:
        with _opened(url, {}, "HEAD") as response:
            return _answer(response).size == path.stat().st_size
    except _Broken as error:
        raise _failure(url, path, str(error)) from error


def _fetch(url: str, part: Path, notes: Path, description: str) -> None:
    """One attempt to bring `part` to its full length, continuing where it ends if the server has the same file."""
    known = _read_notes(notes)
    begin = part.stat().st_size if part.is_file() else 0
    total, validator = known.get("size"), known.get("validator", "")
    if begin and begin == total:
        return
    headers = {}
    if begin and isinstance(total, int) and begin < total:
        headers = {"Range": f"bytes={begin}-"} | ({"If-Range": validator} if validator else {})
    try:
        response = _opened(url, headers)
    except _Stale:
        _forget(part, notes)
        raise
    with response:
        answer = _answer(response)
        if answer.begin and (answer.begin, answer.size) != (begin, total):
            _forget(part, notes)
            raise _Stale("the file changed on the server")
        _check_room(part, answer)
        _write_notes(notes, {"size": answer.size, "validator": answer.validator})
        with part.open("ab" if answer.begin else "wb") as stream:
            _copy(response, stream, answer, description)
    reached = part.stat().st_size
    if answer.size is not None and reached != answer.size:
        raise _Broken(f"the connection ended after {reached} of {answer.size} bytes")


def _forget(part: Path, notes: Path) -> None:
    part.unlink(missing_ok=True)
    notes.unlink(missing_ok=True)


def _copy(response: Any, stream: BinaryIO, answer: _Answer, description: str) -> None:
    total = None if answer.size is None else math.ceil((answer.size - answer.begin) / _CHUNK)
    for chunk in track(_chunks(response), description, total):
        stream.write(chunk)


def _chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"the connection broke: {error or type(error).__name__}") from error


def _opened(url: str, headers: dict[str, str], method: str = "GET") -> Any:
    """The open response.

    Raises:
        EnvironmentFailure: the server refuses; trying again would not help.
        _Broken: there is no answer, or the server has a passing problem.
    """
    # A compressed body would make lengths and ranges mean something else.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers}, method=method)
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _Stale("the file changed on the server") from error
        if error.code in {408, 429} or error.code >= 500:
            raise _Broken(f"the server answered {error.code} {error.reason}") from error
        raise _failure(url, None, f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        unreachable = isinstance(error.reason, ConnectionRefusedError | socket.gaierror)
        raise (_Unreachable if unreachable else _Broken)(str(error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _failure(url, None, "the server answered with a web page instead of a file")
    return response


def _answer(response: Any) -> _Answer:
    headers = response.headers
    etag = headers.get("ETag", "")
    # A weak ETag stands for files that are alike, not equal.
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    length = headers.get("Content-Length", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        try:
            span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            return _Answer(int(span.partition("-")[0]), int(total), validator)
        except ValueError as error:
            raise _Broken("the server's Content-Range makes no sense") from error
    return _Answer(0, int(length) if length.isdecimal() else None, validator)


def _check_room(part: Path, answer: _Answer) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (answer.size or 0) - answer.begin
    if needed > free:
        raise EnvironmentFailure(
            f"{part}: not enough space on the disk",
            expected=f"{needed} bytes",
            found=f"{free} bytes",
            next_step="free some space, or give another --model-location",
        )


def _failure(url: str, path: Path | None, reason: str) -> EnvironmentFailure:
    name = path.name if path is not None else url.rsplit("/", 1)[-1]
    return EnvironmentFailure(
        f"{name}: could not be fetched from {url}",
        found=reason,
        next_step="run the same command again to continue, or give a mirror with --download-url",
    )


def _read_notes(path: Path) -> dict[str, Any]:
    """What we know of a file: its final size, or the size and validator that its part belongs to."""
    try:
        notes = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write_notes(path: Path, notes: dict[str, Any]) -> None:
    if _read_notes(path) != notes:
        records.write_json(path, notes)
