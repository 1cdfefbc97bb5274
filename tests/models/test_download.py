"""Downloads from a local test server that cuts connections, ignores ranges and changes its files."""

import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import EnvironmentFailure, UsageError
from soups.models.download import MODEL_NAMES, download_models
from soups.models.settings import DEFAULT_DOWNLOAD_URL

CONTENT = os.urandom(3_500_000)
NAMES = ("model_0.pt", "model_1.pt")


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT-like files and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/model_0.pt": CONTENT, "/model_1.pt": CONTENT[:1000]}
        self.cut_after: list[int] = []  # Bytes after which each of the next responses ends.
        self.errors: list[int] = []  # Status of the next responses.
        self.ranges = self.length = True
        self.etag, self.kind = '"one"', "application/octet-stream"
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent = 0

    def handle_error(self, *_: Any) -> None:
        """Ignores clients that close the connection: the tests do that."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.command, self.path, asked))
        if server.errors:
            return self.send_error(server.errors.pop(0))
        if self.path not in server.files:
            return self.send_error(404)
        content, begin = server.files[self.path], 0
        fresh = self.headers.get("If-Range") in {None, server.etag}
        if asked and server.ranges and fresh:
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if begin >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(content) - begin))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        if body:
            rest = content[begin:]
            if server.cut_after:
                rest = rest[: server.cut_after.pop(0)]
            server.sent += len(rest)
            self.wfile.write(rest)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server: Server, folder: Path, names: tuple[str, ...] = NAMES) -> list[Path]:
    return download_models(folder, server.url, names, pause=0.0)


def visible_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_names_are_the_72_models_of_the_paper() -> None:
    assert len(MODEL_NAMES) == 72 and MODEL_NAMES[0] == "model_0.pt" and MODEL_NAMES[-1] == "model_71.pt"
    assert DEFAULT_DOWNLOAD_URL == "https://github.com/mlfoundations/model-soups/releases/download/v0.0.2"


def test_files_arrive_whole_and_are_not_fetched_again(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "models"
    assert fetch(server, folder) == [folder / name for name in NAMES]
    assert (folder / "model_0.pt").read_bytes() == CONTENT
    assert visible_names(folder) == list(NAMES)
    asked = len(server.asked)
    fetch(server, folder)
    assert len(server.asked) == asked


def test_a_finished_file_needs_no_server(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    assert download_models(tmp_path, "http://127.0.0.1:9", NAMES) == [tmp_path / name for name in NAMES]


def test_an_existing_file_of_the_right_size_is_not_downloaded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model_0.pt").write_bytes(CONTENT)
    fetch(server, tmp_path, NAMES[:1])
    assert server.asked == [("HEAD", "/model_0.pt", None)] and server.sent == 0


def test_a_file_of_another_size_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model_0.pt").write_bytes(CONTENT[:100])
    fetch(server, tmp_path, NAMES[:1])
    assert (tmp_path / "model_0.pt").read_bytes() == CONTENT


def test_a_broken_transfer_resumes_at_its_end(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_200_000, 700_000]
    fetch(server, tmp_path, NAMES[:1])
    assert (tmp_path / "model_0.pt").read_bytes() == CONTENT
    assert [asked for _, _, asked in server.asked] == [None, "bytes=1200000-", "bytes=1900000-"]
    assert server.sent == len(CONTENT)


def test_a_later_run_resumes_a_partial_file(server: Server, tmp_path: Path) -> None:
    server.cut_after = [2_000_000, 0, 0, 0, 0]
    with pytest.raises(
        EnvironmentFailure, match=r"model_0\.pt: could not be fetched from http(.|\n)*2000000 of 3500000"
    ):
        fetch(server, tmp_path)
    assert visible_names(tmp_path) == ["model_0.pt.part"]
    server.asked.clear()
    fetch(server, tmp_path)
    assert server.asked[0] == ("GET", "/model_0.pt", "bytes=2000000-")
    assert (tmp_path / "model_0.pt").read_bytes() == CONTENT
    assert visible_names(tmp_path) == list(NAMES)


def leave_partial_file(server: Server, folder: Path) -> None:
    server.cut_after = [2_000_000, 0, 0, 0, 0]
    with pytest.raises(EnvironmentFailure):
        fetch(server, folder, NAMES[:1])


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_a_server_that_ignores_ranges_sends_the_whole_file_again(server: Server, tmp_path: Path, etag: str) -> None:
    server.etag = etag
    leave_partial_file(server, tmp_path)
    server.ranges = False
    fetch(server, tmp_path, NAMES[:1])
    assert (tmp_path / "model_0.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"two"', ""])
@pytest.mark.parametrize("size", [3_500_000, 3_000_000, 1_000_000])
def test_a_file_changed_on_the_server_is_downloaded_again(server: Server, tmp_path: Path, etag: str, size: int) -> None:
    if not etag and size == len(CONTENT):
        pytest.skip("a file of equal size without validator cannot be recognised")
    server.etag = server.etag if etag else ""
    leave_partial_file(server, tmp_path)
    server.etag, server.files["/model_0.pt"] = etag, os.urandom(size)
    fetch(server, tmp_path, NAMES[:1])
    assert (tmp_path / "model_0.pt").read_bytes() == server.files["/model_0.pt"]


def test_a_partial_file_without_notes_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model_0.pt.part").write_bytes(b"x" * 1000)
    fetch(server, tmp_path, NAMES[:1])
    assert (tmp_path / "model_0.pt").read_bytes() == CONTENT


def test_a_response_without_length_is_accepted(server: Server, tmp_path: Path) -> None:
    server.length = False
    fetch(server, tmp_path, NAMES[:1])
    assert (tmp_path / "model_0.pt").read_bytes() == CONTENT


def test_a_temporary_server_error_is_retried(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429]
    fetch(server, tmp_path, NAMES[:1])
    assert len(server.asked) == 3


def test_a_missing_file_is_reported_without_retry_and_earlier_files_remain(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"model_9\.pt: could not be fetched(.|\n)*404(.|\n)*--download-url"):
        fetch(server, tmp_path, ("model_1.pt", "model_9.pt", "model_0.pt"))
    assert visible_names(tmp_path) == ["model_1.pt"]
    assert len([path for _, path, _ in server.asked if path == "/model_9.pt"]) == 1


def test_a_web_page_is_refused(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(EnvironmentFailure, match="a web page instead of a file"):
        fetch(server, tmp_path)
    assert visible_names(tmp_path) == []


def test_no_server_is_an_environment_failure(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"model_0\.pt: could not be fetched(.|\n)*refused"):
        download_models(tmp_path, "http://127.0.0.1:9", NAMES, pause=0.0)


def test_other_url_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--download-url file:///etc: not an address of a web server"):
        download_models(tmp_path, "file:///etc", ("passwd",))


def test_a_folder_that_cannot_be_created_is_an_environment_failure(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match=r"model_0\.pt: cannot be written"):
        fetch(server, tmp_path / "file")


def test_too_little_disk_space_is_reported_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EnvironmentFailure, match="not enough space on the disk\n  expected: 3500000 bytes"):
        fetch(server, tmp_path)
    assert visible_names(tmp_path) == []
