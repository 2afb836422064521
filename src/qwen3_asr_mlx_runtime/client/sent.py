"""Messages that are kept for the next process (`resend`). Utterances are named here and not by the bridge, by its rule,
so that a name is the same in each process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qwen3_asr_mlx_runtime.protocol.commands import DEFAULT_STREAM, StartStream

BOUNDARIES = ("end_utterance", "vad_boundary")
AUDIO = ("audio_chunk", *BOUNDARIES)
TURNS = ("start_stream", "stop_stream")
SAMPLE_RATE = StartStream().sample_rate  # where `start_stream` names none
OF_STREAMS = (*TURNS, *AUDIO, "flush", "cancel")


def stream_of(members: Mapping[str, Any]) -> str | None:
    """The stream that a message names."""
    if members.get("type") not in OF_STREAMS:
        return None
    default = None if members.get("type") in ("flush", "cancel") else DEFAULT_STREAM
    return members.get("stream_id") or default


def takes_buffer(members: Mapping[str, Any]) -> bool:
    """Whether a message is a boundary of the audio in the stream's buffer."""
    return members.get("type") in BOUNDARIES and members.get("pcm16") is None and members.get("audio") is None


def frames_of(chunk: Mapping[str, Any]) -> int:
    """Samples in the base64 of a chunk."""
    pcm16 = chunk.get("pcm16")
    return (len(pcm16) // 4 * 3 - pcm16[-2:].count("=")) // 2 if isinstance(pcm16, str) else 0


@dataclass(frozen=True, slots=True)
class Names:
    """A stream at the next message. `is_open`: and kept. `current`: the name of the open utterance. `is_too_long`: its
    audio is not kept. `frames`: samples of its chunks since it was started, at `rate` Hz; `begun`: of these, those
    before the open utterance."""

    is_open: bool = False
    partials: bool = False
    count: int = 0
    current: str | None = None
    is_too_long: bool = False
    rate: int = SAMPLE_RATE
    frames: int = 0
    begun: int = 0

    @property
    def begins_at(self) -> float:
        """Seconds from the first sample of the stream to that of the open utterance."""
        return round(self.begun / self.rate, 3)

    def behind(self, members: Mapping[str, Any], is_in_use: Callable[[str], bool]) -> "tuple[str | None, Names]":
        """The name of the utterance of a message, and the names behind it. Without partials a chunk needs none."""
        match members.get("type"):
            case "start_stream" if not self.is_open or members.get("restart") is True:
                is_kept, partials = members.get("on_limit") != "split", members.get("partials") is True
                rate = members.get("sample_rate") or SAMPLE_RATE
                return None, Names(is_kept, partials, self.count if self.is_open else 0, rate=rate)
            case "stop_stream":
                return None, Names(count=self.count)
            case "cancel" if self.current is not None and self.current == members.get("utterance_id"):
                return None, replace(self, current=None, is_too_long=False, begun=self.frames)
            case "audio_chunk":
                name, count = self._name(members, self.current, is_in_use, needed=self.partials)
                frames = self.frames + frames_of(members)
                return name, replace(self, count=count, current=self.current or name, frames=frames)
            case "end_utterance" | "vad_boundary" if takes_buffer(members):
                name, count = self._name(members, self.current, is_in_use, needed=True)
                return name, replace(self, count=count, current=None, is_too_long=False, begun=self.frames)
            case "end_utterance" | "vad_boundary":
                name, count = self._name(members, None, is_in_use, needed=True)
                return name, replace(self, count=count)
        return None, self

    def _name(
        self, members: Mapping[str, Any], current: str | None, is_in_use: Callable[[str], bool], *, needed: bool
    ) -> tuple[str | None, int]:
        name, count = members.get("utterance_id") or current, self.count
        while name is None and needed:
            count += 1
            generated = f"{stream_of(members)}-{count}"
            name = None if is_in_use(generated) else generated
        return name, count


@dataclass(slots=True, eq=False)
class Sent:
    """A message, with the name of its utterance. `id` and `seq` are those that the process knows; `step`: of `seq`,
    from the chunk before. `size`: of its line, if that holds audio. `chunks` and `cancels`: of the utterance that this
    boundary ends. `before` and `names`: those of its stream, before and behind it.

    `is_kept`: the next process gets it. `is_answered`: no caller waits for its reply. `is_dropped`: the audio of this
    boundary is not kept. `is_resent`: a later process got it too."""

    members: Mapping[str, Any]
    number: int = 0
    id: Any = None
    seq: int | None = None
    step: int = 1
    size: int = 0
    chunks: list["Sent"] = field(default_factory=list)
    cancels: list["Sent"] = field(default_factory=list)
    before: Names | None = None
    names: Names | None = None
    is_kept: bool = True
    is_answered: bool = False
    is_dropped: bool = False
    is_resent: bool = False

    @property
    def type(self) -> str:
        return str(self.members.get("type"))

    @property
    def stream_id(self) -> str | None:
        return stream_of(self.members)

    @property
    def utterance_id(self) -> str | None:
        return self.members.get("utterance_id")

    @property
    def takes_buffer(self) -> bool:
        return takes_buffer(self.members)

    @property
    def wire(self) -> dict[str, Any]:
        """As the process gets it."""
        own = {"id": self.id, "seq": self.seq}
        return {**self.members, **{name: value for name, value in own.items() if value is not None}}
