"""Downloads the 72 public models of the model-soups paper, resuming broken transfers.

pooch does not resume; `huggingface_hub.file_download.http_get` resumes without `If-Range`, so that after a change on
the server it would join parts of two files.
"""

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
from typing import Any

from filelock import FileLock

from soups.core.errors import EnvironmentFailure, UsageError
from soups.core.progress import track
from soups.files.atomic import explain_write_errors, replace_atomically, write_json
from soups.models.settings import DEFAULT_DOWNLOAD_URL

logger = logging.getLogger(__name__)

MODEL_NAMES = tuple(f"model_{index}.pt" for index in range(72))
SECONDS_TO_ANSWER = 30.0
ATTEMPTS = 5
_CHUNK = 2**20
_PART = ".part"


class _TransferBroken(Exception):
    """The connection was refused or ended before the file was complete; a retry may help."""


class _ServerUnreachable(_TransferBroken):
    """The server does not exist or there is no network; a retry helps only a transfer that has begun."""


class _FileChanged(_TransferBroken):
    """The partial file does not belong to the file that the server has now."""


@dataclass(frozen=True)
class _FileInfo:
    """Properties of a file from the headers of a response."""

    begin: int
    """Offset of the response's body in the file, in bytes."""
    size: int | None
    """Size of the whole file in bytes; None if the server does not report it."""
    validator: str
    """Value for `If-Range`: the strong ETag, else the modification time, else empty."""


def download_models(
    destination: Path,
    base_url: str = DEFAULT_DOWNLOAD_URL,
    names: Sequence[str] = MODEL_NAMES,
    pause: float = 1.0,
) -> list[Path]:
    """Downloads the files that are missing, and returns the paths of all.

    Skips files that were downloaded before and still have their size. Continues a partial file (`NAME.part`) if the
    server still has the same file, otherwise starts it again. `NAME` is created only when it is complete.

    Args:
        destination: folder of the files; created if missing.
        base_url: address before the names.
        names: names of the files.
        pause: seconds before the second attempt after a broken connection; doubled before each further one.

    Raises:
        UsageError: the address is not http or https.
        EnvironmentFailure: a file could not be downloaded or written; the files before it remain.
    """
    if urllib.parse.urlsplit(base_url).scheme not in {"http", "https"}:
        raise UsageError(f"--download-url {base_url}: not an address of a web server", expected="https://…")
    paths = []
    for number, name in enumerate(names, start=1):
        path = destination / name
        with explain_write_errors(path):
            destination.mkdir(parents=True, exist_ok=True)
            with FileLock(destination / f".{name}.lock"):
                _download_file(f"{base_url.rstrip('/')}/{name}", path, f"{name} ({number} of {len(names)})", pause)
        paths.append(path)
    return paths


def _download_file(url: str, path: Path, description: str, pause: float) -> None:
    """Downloads one file unless it is complete; retries broken transfers."""
    notes = path.with_name(f".{path.name}.json")
    if path.is_file() and (_read_notes(notes).get("finished") == path.stat().st_size or _has_server_size(url, path)):
        _write_notes(notes, {"finished": path.stat().st_size})
        return
    part = path.with_name(path.name + _PART)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue_part(url, part, notes, description)
            break
        except _TransferBroken as error:
            if attempt == ATTEMPTS or (isinstance(error, _ServerUnreachable) and not part.exists()):
                raise _download_error(url, str(error)) from error
            logger.info("%s: %s; retrying", path.name, error)
            time.sleep(pause * 2 ** (attempt - 1))
    replace_atomically(part, path)
    _write_notes(notes, {"finished": path.stat().st_size})


def _has_server_size(url: str, path: Path) -> bool:
    """Returns whether a file without notes has the size of the server's file."""
    try:
        with _open_url(url, {}, "HEAD") as response:
            return _read_file_info(response).size == path.stat().st_size
    except _TransferBroken as error:
        raise _download_error(url, str(error)) from error


def _continue_part(url: str, part: Path, notes: Path, description: str) -> None:
    """Makes one attempt to complete `part`, from its end if the server still has the same file."""
    known = _read_notes(notes)
    begin = part.stat().st_size if part.is_file() else 0
    total, validator = known.get("size"), known.get("validator", "")
    if begin and begin == total:
        return
    headers = {}
    if begin and isinstance(total, int) and begin < total:
        headers = {"Range": f"bytes={begin}-"} | ({"If-Range": validator} if validator else {})
    try:
        with _open_url(url, headers) as response:
            info = _read_file_info(response)
            if info.begin and (info.begin, info.size) != (begin, total):
                raise _FileChanged("the file changed on the server")
            _check_disk_space(part, info)
            _write_notes(notes, {"size": info.size, "validator": info.validator})
            chunks = None if info.size is None else math.ceil((info.size - info.begin) / _CHUNK)
            with part.open("ab" if info.begin else "wb") as stream:
                for chunk in track(_read_chunks(response), description, chunks):
                    stream.write(chunk)
    except _FileChanged:
        part.unlink(missing_ok=True)
        notes.unlink(missing_ok=True)
        raise
    reached = part.stat().st_size
    if info.size is not None and reached != info.size:
        raise _TransferBroken(f"the connection ended after {reached} of {info.size} bytes")


def _read_chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (http.client.HTTPException, OSError) as error:
        raise _TransferBroken(f"the connection broke: {error or type(error).__name__}") from error


def _open_url(url: str, headers: dict[str, str], method: str = "GET") -> Any:
    """Returns the open response.

    Raises:
        EnvironmentFailure: the server refuses; a retry would not help.
        _TransferBroken: the server does not answer, or has a temporary problem.
    """
    # Lengths and ranges of a compressed body would not be those of the file.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers}, method=method)
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _FileChanged("the file changed on the server") from error
        reason = f"the server answered {error.code} {error.reason}"
        if error.code in {408, 429} or error.code >= 500:
            raise _TransferBroken(reason) from error
        raise _download_error(url, reason) from error
    except urllib.error.URLError as error:
        unreachable = isinstance(error.reason, ConnectionRefusedError | socket.gaierror)
        raise (_ServerUnreachable if unreachable else _TransferBroken)(str(error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        raise _TransferBroken(str(error) or type(error).__name__) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _download_error(url, "the server answered with a web page instead of a file")
    return response


def _read_file_info(response: Any) -> _FileInfo:
    headers = response.headers
    etag = headers.get("ETag", "")
    # Files with equal weak ETags are equivalent, not equal byte for byte.
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    length = headers.get("Content-Length", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        try:
            span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            return _FileInfo(int(span.partition("-")[0]), int(total), validator)
        except ValueError as error:
            raise _TransferBroken("the server's Content-Range is not valid") from error
    return _FileInfo(0, int(length) if length.isdecimal() else None, validator)


def _check_disk_space(part: Path, info: _FileInfo) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (info.size or 0) - info.begin
    if needed > free:
        raise EnvironmentFailure(
            f"{part}: not enough space on the disk",
            expected=f"{needed} bytes",
            found=f"{free} bytes",
            next_step="free some space, or give another --model-location",
        )


def _download_error(url: str, reason: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{url.rsplit('/', 1)[-1]}: could not be fetched from {url}",
        found=reason,
        next_step="run the same command again to continue, or give a mirror with --download-url",
    )


def _read_notes(path: Path) -> dict[str, Any]:
    """Returns the notes of a file: its final size (`finished`), or the `size` and `validator` of its partial file."""
    try:
        notes = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write_notes(path: Path, notes: dict[str, Any]) -> None:
    if _read_notes(path) != notes:
        write_json(path, notes)
