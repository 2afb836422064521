"""Open requests and their outcomes: each gets exactly one."""

import threading
import time
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
        self.oddities: list[str] = []
        self.texts: dict[tuple[Key, int], str] = {}  # by request or utterance, and the place in it
        self.attempts: Counter[int] = Counter()  # of engine_restarting
        self.partials = 0
        self._ends_at: dict[Key, int] = {}  # how often the engine had ended when it was expected
        self._stable: dict[Key, str] = {}
        self._open: dict[Key, tuple[int, bool]] = {}  # (number of utterances, whether they were cancelled)
        self._answers: dict[str, Reply] = {}
        self._ended = False
        self._received_at = time.monotonic()
        self._changed = threading.Condition()

    @property
    def unanswered(self) -> int:
        with self._changed:
            return sum(count for count, _ in self._open.values())

    def expect(self, key: Key, count: int = 1, *, cancelled: bool = False) -> None:
        with self._changed:
            self._open[key] = count, cancelled
            self._ends_at[key] = self.attempts.total()

    def is_open(self, key: Key) -> bool:
        with self._changed:
            if self._ended or time.monotonic() > self._received_at + WAIT:
                raise self._broken(f"the outcome of {key}")
            return key in self._open

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
            self._received_at = time.monotonic()
            if reply is None:
                self._ended = True
            elif reply.get("event") and reply["type"] in ("engine_restarting", "partial_result"):
                self._take_event(reply)
            else:
                self._take(reply)
            self._changed.notify_all()

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        with self._changed:
            in_time = self._changed.wait_for(lambda: done() or self._ended, WAIT)
            if not in_time or not done():
                raise self._broken(what)

    def _broken(self, missing: str) -> Broken:
        return Broken(f"{'the bridge ended' if self._ended else f'nothing came for {WAIT} s'}; missing: {missing}")

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
            explained = code == "engine_crashed" and self._is_explained(key)
            if code != "text" and not explained and not (code == "cancelled" and cancelled):
                self.oddities.append(f"an utterance ended as {code}")

    def _take_event(self, event: Reply) -> None:
        if event["type"] == "engine_restarting":
            self.attempts[event["attempt"]] += 1
            return
        self.partials += 1
        key, stable = (event["stream_id"], event["utterance_id"]), event["stable_text"]
        if not stable.startswith(self._stable.get(key, "")):
            self.oddities.append("stable text has changed")
        self._stable[key] = stable

    def _is_explained(self, key: Key) -> bool:
        """Whether it may have been alone at its second end: of each end one is, and none at the first of all."""
        ends = self.attempts.total()
        return ends >= self._ends_at.get(key, 0) + 2 and self.outcomes["engine_crashed"] < ends
