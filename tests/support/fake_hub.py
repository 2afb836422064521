"""A hub on 127.0.0.1: serves the files of a folder as the main branch of every repository, and fails as configured."""

import hashlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

REVISION = "0123456789abcdef0123456789abcdef01234567"
WAIT = 60.0
_LARGE = ".safetensors"
_BLOCK = 16 * 1024


class Asked(NamedTuple):
    method: str
    path: str
    range: str | None
    authorization: str | None


class FakeHub:
    """`asked` lists every request, `served` counts the bytes of each file that left. Its configuration:

    `status`: answer requests whose path holds the key with that status. `cut_after`: how many bytes of weights each
    next transfer sends before the connection breaks, None for all. `hang_after`: where each transfer of weights stops
    until `released`. `ignore_range`: send every file from its start. `redirect_weights_to`: where they really lie.
    `tamper`: changes what is sent of the weights.
    """

    def __init__(self, folder: Path) -> None:
        self.files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
        self.asked: list[Asked] = []
        self.served: dict[str, int] = {}
        self.status: dict[str, int] = {}
        self.error_code: str | None = None
        self.cut_after: list[int | None] = []
        self.hang_after: int | None = None
        self.ignore_range = False
        self.redirect_weights_to: str | None = None
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.hanging = threading.Event()
        self.released = threading.Event()
        hub = self

        class Handler(_Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def weight_requests(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET" and asked.path.endswith(_LARGE)]

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT)

    def describe(self) -> dict:
        return {"id": "owner/name", "sha": REVISION, "siblings": [self._sibling(name) for name in self.files]}

    def tree(self) -> list[dict]:
        return [self._entry(name) for name in self.files]

    def _sibling(self, name: str) -> dict:
        sibling = {"rfilename": name, "size": len(self.files[name]), "blobId": git_blob(self.files[name])}
        if name.endswith(_LARGE):
            sibling["lfs"] = {"sha256": self.sha256(name), "size": len(self.files[name]), "pointerSize": 134}
        return sibling

    def _entry(self, name: str) -> dict:
        entry = {"type": "file", "path": name, "size": len(self.files[name]), "oid": git_blob(self.files[name])}
        if name.endswith(_LARGE):
            entry["lfs"] = {"oid": self.sha256(name), "size": len(self.files[name]), "pointerSize": 134}
        return entry


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.fake.asked.append(Asked(self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        for part, status in self.fake.status.items():
            if part in path:
                self._refuse(status)
                return
        if path.startswith("/api/models/"):
            self._send_json(self.fake.tree() if "/tree/" in path else self.fake.describe())
        elif self.fake.redirect_weights_to and self.command == "GET" and path.endswith(_LARGE):
            self._redirect(self.fake.redirect_weights_to + path)
        elif (name := path.rpartition("/")[2]) in self.fake.files and "/resolve/" in path:
            self._send_file(name)
        else:
            self._refuse(404)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        if self.fake.error_code:
            self.send_header("X-Error-Code", self.fake.error_code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, name: str) -> None:
        content, large = self.fake.files[name], name.endswith(_LARGE)
        etag = self.fake.sha256(name) if large else git_blob(content)
        start = self._start()
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self._send_body(name, (self.fake.tamper(content) if large else content)[start:], large)

    def _start(self) -> int:
        wanted = self.headers.get("Range")
        return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and not self.fake.ignore_range else 0

    def _send_body(self, name: str, body: bytes, large: bool) -> None:
        cut = self.fake.cut_after.pop(0) if large and self.fake.cut_after else None
        hang = self.fake.hang_after if large else None
        for at in range(0, len(body), _BLOCK):
            if cut is not None and at >= cut:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if hang is not None and at >= hang:
                self.fake.hanging.set()
                self.fake.released.wait(WAIT)
            block = body[at : at + _BLOCK]
            try:
                self.wfile.write(block)
            except OSError:
                self.close_connection = True
                return
            self.fake.served[name] = self.fake.served.get(name, 0) + len(block)
