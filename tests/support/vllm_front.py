"""An HTTP server in front of what answers as vLLM: recorded answers of a real one, or a real one itself.

Tests tell it how to fail: `faults` holds what becomes of the next requests for a text, one each, None for nothing:

a number          this status, with `retry_after` and `location` if they are set
"garbage"         200, and no JSON
"strange"         200, and JSON of another service
"reset"           the connection ends before the answer
"half"            the connection ends within the answer
"drip"            the answer comes byte by byte, without an end
"abort"           the server has ended the request, as where it shuts down
"failed"          the server has failed since it began to send events
"gzip"            the answer is compressed
HOLD              the answer waits for `release`
"""

import base64
import contextlib
import gzip
import json
import re
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.remote.server import probe
from qwen3_asr_mlx_runtime.engines.remote.wav import wav_bytes

TESTS = Path(__file__).resolve().parent.parent
RECORDED = TESTS / "engines" / "remote" / "recorded.json"
EXAMPLES = TESTS.parent / "examples" / "audio"
CHAT, TRANSCRIPTIONS = "/v1/chat/completions", "/v1/audio/transcriptions"
HOLD = "hold"
WAIT = 60
_WAV_HEADER = 44
_BODIES = {
    "garbage": b"<html>\xff",
    "strange": b'{"choices":[{"message":{"content":"Hello"}}]}',
    "failed": b'data: {"error":{"message":"no","code":500}}\n\ndata: [DONE]\n\n',
}


class Reply(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"


class Asked(NamedTuple):
    """A request for a text. `pcm`: its samples, int16 little-endian."""

    path: str
    pcm: bytes
    context: str
    language: str | None
    max_tokens: int


Answers = Callable[[str, str, dict[str, str], bytes], Reply]  # method, path, headers, body


class Front:
    """`asked`: the requests for texts that came, in order. `given_up`: how many clients went before their answer."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.faults: deque[object] = deque()
        self.retry_after: str | None = None
        self.location: str | None = None
        self.is_well = True
        self.models: dict | None = None  # in place of what is answered
        self.token: str | None = None
        self.asked: list[Asked] = []
        self.headers: list[dict[str, str]] = []
        self.held = threading.Semaphore(0)  # requests that wait
        self.given_up = threading.Semaphore(0)
        self.release = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._certificate: Path | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._certificate else ''}://127.0.0.1:{self._port}"

    def encrypt(self, certificate: Path) -> None:
        """From now on by TLS. `certificate`: a file with its key too."""
        self.stop()
        self._certificate = certificate
        self.start()

    def start(self) -> None:
        """At the port of the first start."""
        front = self

        class Handler(_Handler):
            pass

        Handler.front = front
        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket,
                server_side=True,
                do_handshake_on_connect=False,  # in the thread of a connection
            )
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """As a server that is killed: its connections end."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.end_connections()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        self.connections.add(request)
        return request, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        pass  # a client that went

    def end_connections(self) -> None:
        for connection in [*self.connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    front: Front
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        front = self.front
        if not self._has_token():
            return
        if self.path == "/health" and not front.is_well:
            self._send(Reply(503, b""))
        elif self.path == "/v1/models" and front.models is not None:
            self._send(Reply(200, json.dumps(front.models).encode()))
        else:
            self._send(front.answers("GET", self.path, dict(self.headers), b""))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._has_token():
            return
        front = self.front
        front.headers.append(dict(self.headers))
        front.asked.append(asked(self.path, dict(self.headers), body))
        fault = front.faults.popleft() if front.faults else None
        match fault:
            case int():
                extra = {"Retry-After": front.retry_after, "Location": front.location}
                self._send(Reply(fault, b'{"error":{"message":"no"}}'), extra)
            case "garbage" | "strange" | "failed":
                self._send(Reply(200, _BODIES[fault]))
            case "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
            case "half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
            case "drip":
                self._drip()
            case "abort":
                reply = front.answers("POST", self.path, dict(self.headers), body)
                self._send(reply._replace(body=reply.body.replace(b'"stop"', b'"abort"')))
            case "gzip":
                reply = front.answers("POST", self.path, dict(self.headers), body)
                self._send(reply._replace(body=gzip.compress(reply.body)), {"Content-Encoding": "gzip"})
            case _:
                if fault == HOLD:
                    front.held.release()
                    self._wait()
                self._send(front.answers("POST", self.path, dict(self.headers), body))

    def _wait(self) -> None:
        """Until the release, or until the client has gone."""
        self.connection.settimeout(0.01)
        while not self.front.release.is_set():
            with contextlib.suppress(TimeoutError):
                if self.connection.recv(1, socket.MSG_PEEK) == b"":
                    self.front.given_up.release()
                    return
        self.connection.settimeout(None)

    def _drip(self) -> None:
        """Until the client has gone."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n")
        with contextlib.suppress(OSError):
            while not self.front.release.wait(0.01):
                self.wfile.write(b" ")
        self.close_connection = True
        self.front.given_up.release()

    def _has_token(self) -> bool:
        if self.front.token is None or self.headers["Authorization"] == f"Bearer {self.front.token}":
            return True
        self._send(Reply(401, b'{"error":"Unauthorized"}'))
        return False

    def _send(self, reply: Reply, extra: dict[str, str | None] | None = None) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in (extra or {}).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)


def asked(path: str, headers: dict[str, str], body: bytes) -> Asked:
    """What a request for a text asks."""
    if path == CHAT:
        message = json.loads(body)
        context = "".join(turn["content"] for turn in message["messages"] if turn["role"] == "system")
        [url] = [
            part["audio_url"]["url"]
            for turn in message["messages"]
            if turn["role"] == "user"
            for part in turn["content"]
        ]
        wav = base64.b64decode(url.removeprefix("data:audio/wav;base64,"))
        forced = re.search(r"assistant\nlanguage (\w+)<asr_text>", message.get("chat_template", ""))
        return Asked(path, wav[_WAV_HEADER:], context, forced and forced[1], message["max_tokens"])
    fields = _fields(headers, body)
    language = fields.get("language", b"").decode() or None
    context, most = fields.get("prompt", b"").decode(), int(fields["max_completion_tokens"])
    return Asked(path, fields["file"][_WAV_HEADER:], context, language, most)


def _fields(headers: dict[str, str], body: bytes) -> dict[str, bytes]:
    """Of a form."""
    boundary = re.search("boundary=(\\S+)", headers["Content-Type"])
    assert boundary is not None
    fields = {}
    for part in body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, value = (
            part.strip(b"\r\n").partition(b"\r\n\r\n")
            if b'name="file"' not in part
            else part[2:-2].partition(b"\r\n\r\n")
        )
        name = re.search(rb'name="(\w+)"', head)
        assert name is not None
        fields[name[1].decode()] = value
    return fields


def forwarding(url: str) -> Answers:
    """A real server's answers."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        kept = {name: value for name, value in headers.items() if name.lower() in ("content-type", "authorization")}
        # A connection for each: one that is kept may end at any moment, a fault that no test has planned.
        response = httpx2.request(method, url + path, headers=kept, content=body, timeout=300)
        return Reply(response.status_code, response.content, response.headers.get("content-type", "text/plain"))

    return answer


def clips() -> dict[str, bytes]:
    """The PCM of what was recorded, by its name."""
    examples = {path.name: read_file(str(path)).samples for path in sorted(EXAMPLES.glob("*.wav"))}
    others = {"probe": probe().samples, "silence": np.zeros(8_000, np.float32)}
    return {name: wav_bytes(samples)[_WAV_HEADER:] for name, samples in {**examples, **others}.items()}


def recorded(path: Path = RECORDED, *, forces: str | None = "transcriptions") -> Answers:
    """Answers that a real server gave to the same requests. Of audio that goes on, those to the recorded audio with the
    same beginning and the nearest length. `forces`: how the server takes a language, as its start decided."""
    record = json.loads(path.read_text(encoding="utf-8"))
    audio = clips()

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if method == "GET":
            known = record["get"].get(path)
            return Reply(404, b"{}") if known is None else Reply(200, known.encode())
        request = asked(path, headers, body)
        if path == CHAT and request.language is not None and forces != "chat_template":
            return Reply(**_reply(record["refused_template"]))
        fitting = [each for each in record["answers"] if _fits(each, request, audio, forces)]
        assert fitting, f"no recorded answer: {path}, {len(request.pcm) // 2} samples, {request[2:]}"
        best = min(fitting, key=lambda each: abs(each["samples"] - len(request.pcm) // 2))
        return Reply(**_reply(best))

    return answer


def _reply(entry: dict) -> dict:
    return {"status": entry["status"], "body": entry["body"].encode(), "content_type": entry["content_type"]}


def _fits(entry: dict, request: Asked, audio: dict[str, bytes], forces: str | None) -> bool:
    language = None if forces is None else request.language
    asked_for = (request.path, request.context, language, request.max_tokens)
    is_same = asked_for == (entry["path"], entry["context"], entry["language"], entry["max_tokens"])
    recorded = audio[entry["audio"]][2 * entry["start"] :]
    return is_same and recorded.startswith(request.pcm[: 2 * entry["samples"]])
