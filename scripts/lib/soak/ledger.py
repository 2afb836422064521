"""Open requests and their outcomes: each gets exactly one."""

import threading
from collections import Counter
from collections.abc import Callable

from soak.bridge import Reply

Key = str | tuple[str, str]  # the id of a request, or stream and utterance

WAIT = 900.0


class Broken(RuntimeError):
    """The bridge ended, rejected a needed request, or sent nothing for so long that it counts as stuck."""


class Ledger:
    """`receive` handles every reply, on any thread; the other methods wait."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()  # "text", or the code of an error
        self.allowed = {"text"}
        self.oddities: list[str] = []
        self.texts: dict[tuple[Key, int], str] = {}  # by request or utterance, and the place in it
        self._open: dict[Key, tuple[int, bool]] = {}  # (number of utterances, whether they were cancelled)
        self._answers: dict[str, Reply] = {}
        self._ended = False
        self._changed = threading.Condition()

    @property
    def unanswered(self) -> int:
        with self._changed:
            return sum(count for count, _ in self._open.values())

    def expect(self, key: Key, count: int = 1, *, cancelled: bool = False) -> None:
        with self._changed:
            self._open[key] = count, cancelled

    def wait_until_open(self, maximum: int) -> None:
        """Wait until at most `maximum` requests are open."""
        self._wait(lambda: len(self._open) <= maximum, f"{len(self._open)} outcomes")

    def answer(self, id: str) -> Reply:
        """Wait for the reply to a request without an outcome. Raises Broken if it was rejected."""
        self._wait(lambda: id in self._answers, f"the answer to {id}")
        reply = self._answers.pop(id)
        if reply["type"] == "error":
            raise Broken(f"refused: {reply['code']}")
        return reply

    def receive(self, reply: Reply | None) -> None:
        with self._changed:
            if reply is None:
                self._ended = True
            else:
                self._take(reply)
            self._changed.notify_all()

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        with self._changed:
            in_time = self._changed.wait_for(lambda: done() or self._ended, WAIT)
            if not in_time or not done():
                raise Broken(f"{'the bridge ended' if self._ended else f'nothing came for {WAIT} s'}; missing: {what}")

    def _take(self, reply: Reply) -> None:
        match reply["type"]:
            case "realtime_batch_final":
                for item in reply["items"]:
                    self._close((item["stream_id"], item["utterance_id"]), [item])
            case "transcript":
                self._close(reply["id"], [reply])
            case "batch_transcript":
                self._close(reply["id"], reply["items"])
            case "error" if reply.get("id") in self._open:
                self._close(reply["id"], [{"error": reply}] * self._open[reply["id"]][0])
            case "cancel_result":  # the outcome follows
                pass
            case _ if reply.get("id") is not None:
                self._answers[reply["id"]] = reply
            case "error" | "stream_error" | "fatal":
                self.oddities.append(f"{reply['type']} {reply['code']}")

    def _close(self, key: Key, items: list[Reply]) -> None:
        count, cancelled = self._open.pop(key, (0, False))
        if len(items) != count:
            self.oddities.append(f"{len(items)} outcomes for {count} utterances")
        for number, item in enumerate(items):
            if item.get("text") is not None:
                self.texts[key, number] = item["text"]
            code = item["error"]["code"] if item.get("error") else "text"
            self.outcomes[code] += 1
            if code not in self.allowed and not (code == "cancelled" and cancelled):
                self.oddities.append(f"an utterance ended as {code}")
