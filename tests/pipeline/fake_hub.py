"""A server with the part of the Hugging Face hub's API of one repository: creating, committing, downloading."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

COMMIT = "c" * 40


class FakeHub:
    """Serves on a free port of this machine within the block."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[str] = []
        self.tokens: set[str] = set()
        self.refuses = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self._resolve(with_content=False)

            def do_GET(self) -> None:
                if "/tree/" in self.path:
                    self._json([{"type": "file", "path": n, "size": len(c), "oid": n} for n, c in hub.files.items()])
                elif self.path.startswith("/api/models/"):
                    siblings = [{"rfilename": name} for name in hub.files]
                    self._json({"id": "someone/soup", "sha": COMMIT, "siblings": siblings, "private": False})
                else:
                    self._resolve(with_content=True)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if hub.refuses:
                    self.send_error(403, "no")
                    return
                if self.headers.get("Authorization"):
                    hub.tokens.add(self.headers["Authorization"])
                if self.path == "/api/repos/create":
                    hub.created.append(json.loads(body)["name"])
                    self._json({"url": f"{hub.address}/someone/soup", "id": "someone/soup"})
                elif "/preupload/" in self.path:
                    paths = [file["path"] for file in json.loads(body)["files"]]
                    files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                    self._json({"files": files})
                elif "/commit/" in self.path:
                    lines = [json.loads(line) for line in body.splitlines() if line.strip()]
                    for line in lines:
                        if line["key"] == "file":
                            hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    self._json({"commitUrl": f"{hub.address}/someone/soup/commit/{COMMIT}", "commitOid": COMMIT})
                else:
                    self._json({"errors": [], "warnings": []})

            def _resolve(self, with_content: bool) -> None:
                content = hub.files.get(self.path.rpartition("/")[2])
                if content is None:
                    self.send_response(200 if self.path == "/" else 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if with_content:
                    self.wfile.write(content)

            def _json(self, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "FakeHub":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
