"""Restarts of the engine: promise I11 of the protocol monitor."""

from dataclasses import dataclass, field
from typing import Any

from qwen3_asr_mlx_runtime.session.model_state import MAX_ENDS


@dataclass
class RestartBooks:
    """`restarts`, also of a line in: how many its client had seen; None where it may have missed some."""

    restarts: int = 0
    attempt: int = 0  # of the latest
    unseen: int = 0  # ends of which no event came, as while nothing needs the model
    crashed: int = 0
    unexplained: list[str] = field(default_factory=list)
    boundaries: dict[tuple[str, str], int | None] = field(default_factory=dict)  # the first of each name
    sees: bool = False
    is_blind: bool = False  # events were wanted no more: some may be missing

    def sent(self, sent: Any) -> None:
        want = sent.message.get("want")
        if sent.type == "hello" and isinstance(want, list) and "progress" not in want:
            self.is_blind = True
        sent.restarts = self.restarts if self.sees and not self.is_blind else None

    def event(self, event: dict) -> None:
        attempt, most = event["attempt"], MAX_ENDS - 1
        if self.restarts and not self.is_blind:
            most = min(most, self.attempt + self.unseen + (not self.unseen))
        assert 1 <= attempt <= most, f"I11: attempt {attempt} after {self.attempt}"
        self.restarts += 1
        self.attempt, self.unseen = attempt, max(0, self.unseen - 1)

    def record(self, sent: Any, line: dict) -> None:
        """A line of any type, and the request that it answers, if it does."""
        if line["type"] == "capabilities" and sent.type == "hello":
            self.sees = "progress" in line["want"]
        if line["type"] == "utterance_queued":
            self.boundaries.setdefault((line["stream_id"], line["utterance_id"]), sent.restarts)
        if line.get("code") == "engine_crashed":
            self._crashed(sent.restarts)
        for item in line.get("items", ()):
            if "error" in item and item["error"]["code"] == "engine_crashed":
                of_stream = self.boundaries.get((item.get("stream_id"), item.get("utterance_id")))
                self._crashed(sent.restarts if "audio" in item else of_stream)
        if line["type"] == "stopped" and line["reason"] == "engine_unavailable":
            self.unexplained.clear()  # of the last end no event comes

    def _crashed(self, before: int | None) -> None:
        if before is None or self.is_blind:
            return
        self.crashed += 1
        if self.restarts < before + 2:
            self.unexplained.append(f"audio failed after {self.restarts - before} restarts")
        if self.crashed >= self.restarts:
            self.unexplained.append(f"{self.crashed} failed after {self.restarts} restarts in all")

    def balance(self) -> None:
        assert not self.unexplained, f"I11: {self.unexplained[0]}"
