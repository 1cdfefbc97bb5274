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
_RANGE_REFUSED = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


class _TransferBroken(Exception):
    """The connection was refused or ended before the file was complete; a retry may help."""


class _ServerUnreachable(_TransferBroken):
    """The server does not exist or there is no network; a retry helps only a transfer that has begun."""


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
    for number, name in enumerate(names, start=1):
        path = destination / name
        with explain_write_errors(path):
            destination.mkdir(parents=True, exist_ok=True)
            with FileLock(destination / f".{name}.lock"):
                _download_file(f"{base_url.rstrip('/')}/{name}", path, f"{name} ({number} of {len(names)})", pause)
    return [destination / name for name in names]


def _download_file(url: str, path: Path, description: str, pause: float) -> None:
    """Downloads one file unless it is complete; retries broken transfers."""
    notes, part = path.with_name(f".{path.name}.json"), path.with_name(f"{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if not _is_complete(url, path, notes):
                _continue_part(url, part, notes, description)
                replace_atomically(part, path)
            break
        except _TransferBroken as error:
            if attempt == ATTEMPTS or (isinstance(error, _ServerUnreachable) and not part.exists()):
                raise _download_error(url, str(error)) from error
            logger.info("%s: %s; retrying", path.name, error)
            time.sleep(pause * 2 ** (attempt - 1))
    finished = {"finished": path.stat().st_size}
    if _read_notes(notes) != finished:
        write_json(notes, finished)


def _is_complete(url: str, path: Path, notes: Path) -> bool:
    """Returns whether a file has the size that it had when it was finished, or without notes that of the server's."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    if _read_notes(notes).get("finished") == size:
        return True
    with _open_url(url, {}, "HEAD") as response:
        return _read_headers(response)[1] == size


def _continue_part(url: str, part: Path, notes: Path, description: str) -> None:
    """Makes one attempt to complete `part`, from its end if the server still has the same file."""
    known = _read_notes(notes)
    total, validator = known.get("size"), known.get("validator", "")
    have = part.stat().st_size if part.is_file() else 0
    if have and have == total:
        return
    headers = {}
    if have and isinstance(total, int) and have < total:
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
    with _open_url(url, headers) as response:
        begin, size, validator = _read_headers(response)
        if response.status == _RANGE_REFUSED or (begin and (begin, size) != (have, total)):
            part.unlink(missing_ok=True)
            notes.unlink(missing_ok=True)
            raise _TransferBroken("the file changed on the server")
        _check_disk_space(part, (size or 0) - begin)
        write_json(notes, {"size": size, "validator": validator})
        chunks = None if size is None else math.ceil((size - begin) / _CHUNK)
        with part.open("ab" if begin else "wb") as stream:
            for chunk in track(_read_chunks(response), description, chunks):
                stream.write(chunk)
    reached = part.stat().st_size
    if size is not None and reached != size:
        raise _TransferBroken(f"the connection ended after {reached} of {size} bytes")


def _read_chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (http.client.HTTPException, OSError) as error:
        raise _TransferBroken(f"the connection broke: {error or type(error).__name__}") from error


def _open_url(url: str, headers: dict[str, str], method: str = "GET") -> Any:
    """Returns the open response: the file, a part of it, or the refusal of a range.

    Raises:
        EnvironmentFailure: the server refuses; a retry would not help.
        _TransferBroken: the server does not answer, or has a temporary problem.
    """
    # Lengths and ranges of a compressed body would not be those of the file.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers}, method=method)
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_REFUSED:
            return error
        error.close()
        reason = f"the server answered {error.code} {error.reason}"
        if error.code in {408, 429} or error.code >= 500:
            raise _TransferBroken(reason) from error
        raise _download_error(url, reason) from error
    except (http.client.HTTPException, OSError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        unreachable = isinstance(cause, ConnectionRefusedError | socket.gaierror)
        reason = str(cause) or type(cause).__name__
        raise (_ServerUnreachable if unreachable else _TransferBroken)(reason) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _download_error(url, "the server answered with a web page instead of a file")
    return response


def _read_headers(response: Any) -> tuple[int, int | None, str]:
    """Returns the offset of the body in the file, the size of the whole file, and the value for `If-Range`.

    The size is None if the server does not report it; the value is the strong ETag, else the modification time, else
    empty.
    """
    headers = response.headers
    etag = headers.get("ETag", "")
    # Files with equal weak ETags are equivalent, not equal byte for byte.
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    length = headers.get("Content-Length", "")
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, int(length) if length.isdecimal() else None, validator
    try:
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        return int(span.partition("-")[0]), int(total), validator
    except ValueError as error:
        raise _TransferBroken("the server's Content-Range is not valid") from error


def _check_disk_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
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
