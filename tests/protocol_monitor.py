"""Watches one conversation and fails at the first line that breaks a promise of the protocol.

I1  every line out is a JSON object in ASCII, and its `type` is known
I2  every request gets exactly one reply, and nothing else is said
I3  replies come in the order of the requests, and fit them; an `id` is echoed
I4  a batch has an item for every file, in their order, and counts the failed ones
I7  `stopped` is the last line
"""

import json
from collections import deque
from dataclasses import dataclass

REPLY_TYPES = {
    "capabilities": "capabilities",
    "hello": "capabilities",
    "start": "ready",
    "transcribe": "transcript",
    "batch_transcribe": "batch_transcript",
    "stop": "stopped",
}
ABSENT = object()


@dataclass(frozen=True)
class Sent:
    """A line in, as far as it can be read: what its reply must look like."""

    type: str | None
    id: object
    audio: object

    @classmethod
    def from_line(cls, line: bytes) -> "Sent":
        try:
            message = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return cls(None, None, None)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            return cls(None, ABSENT, None)
        return cls(message["type"], message.get("id", ABSENT), message.get("audio"))


class ProtocolMonitor:
    """Tell it every line in with `sent`, every block of bytes out with `received`, and at the end `finish`."""

    def __init__(self) -> None:
        self.replies: list[dict] = []
        self._open: deque[Sent] = deque()
        self._partial = b""
        self._ended = False
        self._signalled = False

    def sent(self, line: bytes) -> None:
        if line.strip(b" \t\r\n"):
            self._open.append(Sent.from_line(line.removeprefix(b"\xef\xbb\xbf")))

    def signalled(self) -> None:
        """A signal was sent: `stopped` may come although lines that nobody read any more have no reply."""
        self._signalled = True

    def received(self, data: bytes) -> list[dict]:
        """The replies that are whole now."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        replies = [self._check(line) for line in lines]
        self.replies += replies
        return replies

    def finish(self) -> None:
        """The output has ended: no half line, no request without its reply."""
        assert self._partial == b"", f"I1: the output ends within a line: {self._partial[:80]!r}"
        assert not self._open, f"I2: {len(self._open)} requests without a reply, the first: {self._open[0].type}"

    def _check(self, line: bytes) -> dict:
        assert line.isascii(), f"I1: not ASCII: {line[:80]!r}"
        reply = json.loads(line, parse_constant=_refuse)
        assert isinstance(reply, dict), f"I1: not an object: {line[:80]!r}"
        known = {*REPLY_TYPES.values(), "error", "fatal"}
        assert reply.get("type") in known, f"I1: unknown type: {reply.get('type')}"
        assert not self._ended, f"I7: {reply['type']} after `stopped`"
        self._ended = reply["type"] == "stopped"
        self._match(reply)
        return reply

    def _match(self, reply: dict) -> None:
        if reply["type"] == "fatal" or (self._ended and self._signalled):
            self._open.clear()
            return
        assert self._open, f"I2: {reply['type']} answers no request"
        sent = self._open.popleft()
        if sent.type == "stop" and reply.get("code") == "shutting_down":
            self._open.append(sent)  # sent behind the `stop`, refused before `stopped`
            sent = self._open.popleft()
        expected = REPLY_TYPES.get(sent.type or "")
        assert reply["type"] in (expected, "error"), f"I3: {reply['type']} answers {sent.type}"
        self._match_id(sent, reply)
        if reply["type"] == "batch_transcript":
            _check_batch(sent, reply)

    def _match_id(self, sent: Sent, reply: dict) -> None:
        if sent.id is ABSENT:
            assert reply.get("id") is None, "I3: an id that the request did not have"
            return
        unusable = reply["type"] == "error" and reply.get("id", ABSENT) is None
        assert unusable or reply.get("id", ABSENT) == sent.id, "I3: the id is not echoed"


def _check_batch(sent: Sent, reply: dict) -> None:
    assert [item["audio"] for item in reply["items"]] == sent.audio, "I4: other files than asked for"
    assert reply["count"] == len(reply["items"]), "I4: count"
    assert reply["failed"] == sum("error" in item for item in reply["items"]), "I4: failed"


def _refuse(name: str) -> None:
    raise AssertionError(f"I1: {name} is not JSON")
