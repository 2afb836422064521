"""Words of utterances and files: promise I12 of the protocol monitor."""

from dataclasses import dataclass, field
from typing import Any

Utterance = tuple[int, str, str]  # job, stream, name


@dataclass
class WordBooks:
    """`pending`: utterances that were delivered without their words, and how long their text is."""

    pending: dict[Utterance, str] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)  # the last start of each stream, by its place

    def sent(self, sent: Any) -> None:
        if sent.type == "start_stream":
            self.started[sent.stream_id] = sent.place

    def record(self, sent: Any, line: dict) -> None:
        """A line of any type, and the request that it answers, if it does."""
        kind = line["type"]
        if kind == "words_ready":
            self._ready(line)
        if kind == "stream_stopped" and self.started.get(line["stream_id"], 0) < sent.place:
            late = [name for _, stream, name in self.pending if stream == line["stream_id"]]
            assert not late, f"I12: {late} without words before stream_stopped"
        if kind == "stopped":
            assert not self.pending, f"I12: {[*self.pending]} without words before stopped"
        items = line.get("items", ()) if kind in ("realtime_batch_final", "batch_transcript", "stopped") else ()
        for item in [line] if kind == "transcript" else items:
            self._item(item, is_event=line.get("event") is True)
        if kind == "aligned":
            check_words(line["words"], None)

    def _item(self, item: dict, *, is_event: bool) -> None:
        if item.get("words_pending"):
            assert is_event, "I12: a reply without its words"
            assert item["words"] is None, "I12: words that are there, and pending"
            self.pending[_utterance(item)] = item["text"]
        elif item.get("words") is not None:
            check_words(item["words"], item["text"])
        elif "words" in item:
            reasons = [warning for warning in item["warnings"] if warning.startswith("words_unavailable: ")]
            assert reasons, "I12: no words, and no reason"

    def _ready(self, event: dict) -> None:
        utterance = _utterance(event)
        assert utterance in self.pending, f"I12: words of {utterance}, which waits for none"
        assert ("words" in event) != ("error" in event), "I12: words and an error, or neither"
        text = self.pending.pop(utterance)
        if "words" in event:
            check_words(event["words"], text)

    def balance(self) -> None:
        """The output has ended."""
        assert not self.pending, f"I12: {[*self.pending]} without words"


def check_words(words: list[dict], text: str | None) -> None:
    """Words in order, each of a time of its own, and their ranges without a hole. `text` is None if it is not known."""
    end = ends_at = 0.0
    for word in words:
        assert word["char_start"] == end, "I12: a hole between words"
        assert word["char_end"] > end, "I12: a word without characters"
        assert ends_at <= word["start"] < word["end"], "I12: words out of order"
        end, ends_at = word["char_end"], word["end"]
        if text is not None:
            assert word["text"] == text[word["char_start"] : word["char_end"]].strip(), "I12: another text"
    if words and text is not None:
        assert end == len(text), "I12: text without words"


def _utterance(line: dict[str, Any]) -> Utterance:
    return line["job"], line["stream_id"], line["utterance_id"]
