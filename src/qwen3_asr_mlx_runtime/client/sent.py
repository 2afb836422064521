"""Messages as they were sent, and the streams that they open, for `resend`. Utterances are named here and not by the
bridge, by its rule, so that a name is the same in each process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_asr_mlx_runtime.client.errors import ClientError
from qwen3_asr_mlx_runtime.protocol.commands import DEFAULT_STREAM

BOUNDARIES = ("end_utterance", "vad_boundary")
AUDIO = ("audio_chunk", *BOUNDARIES)
OF_STREAMS = ("start_stream", *AUDIO, "flush", "stop_stream", "cancel")


def stream_of(members: Mapping[str, Any]) -> str | None:
    """The stream that a message names."""
    if members.get("type") not in OF_STREAMS:
        return None
    default = None if members.get("type") in ("flush", "cancel") else DEFAULT_STREAM
    return members.get("stream_id") or default


def takes_buffer(members: Mapping[str, Any]) -> bool:
    """Whether a message is a boundary of the audio in the stream's buffer."""
    return members.get("type") in BOUNDARIES and members.get("pcm16") is None and members.get("audio") is None


@dataclass(slots=True, eq=False)
class Sent:
    """A message as it was sent. `is_answered`: no caller waits for its reply. `is_dropped`: the audio of this boundary
    is not kept. `is_resent`: a later process got it too."""

    members: Mapping[str, Any]
    line: bytes
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


@dataclass(slots=True)
class OpenStream:
    """`current`: the name of the open utterance. `is_too_long`: its audio is not kept. `lost`: the error of the process
    that had it."""

    partials: bool
    count: int = 0
    current: str | None = None
    is_too_long: bool = False
    lost: ClientError | None = None

    def check(self, members: Mapping[str, Any]) -> None:
        """Raises the error by which the open utterance was lost. Its boundary is the last message to get it."""
        if self.lost is not None and (members.get("type") == "audio_chunk" or takes_buffer(members)):
            error, self.lost = self.lost, self.lost if members.get("type") == "audio_chunk" else None
            raise error.again()

    def name(self, members: Mapping[str, Any], is_in_use: Callable[[str], bool]) -> str | None:
        """The name of the utterance of a chunk or boundary. Without partials a chunk needs none."""
        is_chunk = members.get("type") == "audio_chunk"
        of_buffer = is_chunk or takes_buffer(members)
        name = members.get("utterance_id") or (self.current if of_buffer else None)
        while name is None and (self.partials or not is_chunk):
            self.count += 1
            generated = f"{stream_of(members)}-{self.count}"
            name = None if is_in_use(generated) else generated
        if of_buffer:
            self.current = (self.current or name) if is_chunk else None
        return name


class OpenStreams(dict[str, OpenStream]):
    """By their names."""

    def follow(self, members: Mapping[str, Any]) -> None:
        """Follow a message that is sent now."""
        name = stream_of(members) or ""
        match members.get("type"):
            case "start_stream" if name not in self or members.get("restart") is True:
                count = self[name].count if name in self else 0
                self[name] = OpenStream(members.get("partials") is True, count)
            case "stop_stream":
                self.pop(name, None)
            case "cancel" if name in self and self[name].current == members.get("utterance_id"):
                self[name].current = None
