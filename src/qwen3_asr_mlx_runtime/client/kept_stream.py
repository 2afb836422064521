"""What `resend` keeps of one stream."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qwen3_asr_mlx_runtime.client.errors import ClientError
from qwen3_asr_mlx_runtime.client.sent import BOUNDARIES, TURNS, Names, Sent, frames_of, takes_buffer


class KeptStream:
    """`messages`: all but the chunks, in their order. `chunks`: of the open utterance. `lost`: the error of the process
    that had its audio. `is_resent`: a later process got it too."""

    def __init__(self) -> None:
        self.names = Names()
        self.messages: dict[Sent, None] = {}
        self.chunks: list[Sent] = []
        self.lost: ClientError | None = None
        self.is_resent = False
        self._seq = -1  # the last one that the process got
        self._app_seq: int | None = None  # and that of the app
        self._gap = 0  # of refused chunks, in the open utterance behind its last chunk
        self._turn: Sent | None = None  # the last start or stop

    # What is sent

    def planned(self, members: Mapping[str, Any]) -> Sent:
        """A message with its name and number. Raises the error by which its utterance was lost; its boundary is the
        last to get it."""
        if self.lost is not None and (members.get("type") == "audio_chunk" or takes_buffer(members)):
            error, self.lost, self._app_seq = self.lost, None if takes_buffer(members) else self.lost, None
            raise error.again()
        if members.get("samples") is not None and members.get("rest") != "drop" and takes_buffer(members):
            raise ValueError("with `resend` the rest behind `samples` cannot be kept: `rest` must be `drop`")
        name, names = self.names.behind(members, self._is_in_use)
        sent = Sent(members if name is None else {**members, "utterance_id": name}, names=names)
        if sent.type == "audio_chunk" and isinstance(seq := members.get("seq"), int):
            sent.step = self._gap + (1 if self._app_seq is None else seq - self._app_seq)
            sent.seq = self._seq + sent.step
        return sent

    def add(self, sent: Sent) -> bool:
        """Add what was planned. Returns whether it is kept."""
        assert sent.names is not None  # noqa: S101 set by `planned`
        sent.before, self.names = self.names, sent.names
        if sent.type == "audio_chunk":
            if sent.seq is not None:
                self._seq, self._app_seq, self._gap = sent.seq, sent.members["seq"], 0
            if not self.names.is_too_long:
                self.chunks.append(sent)
            return not self.names.is_too_long
        if sent.takes_buffer:
            self._end_utterance(sent)
        if sent.type in TURNS:
            self._turn, self.lost, self._app_seq, self._gap = sent, None, None, 0
            sent.is_kept = sent.members.get("on_limit") != "split"
        self.messages[sent] = None
        return True

    def restart_numbers(self) -> None:
        """For the next process."""
        self._seq, self.is_resent = -1, True

    def number(self, chunk: Sent) -> None:
        if chunk.seq is not None:
            self._seq += chunk.step
            chunk.seq = self._seq

    # What is received

    def refuse(self, sent: Sent) -> None:
        """Go back to the names before it. The audio of a boundary stays in the buffer."""
        self.messages.pop(sent, None)
        before, behind, now = sent.before, sent.names, self.names
        if before is None or behind is None:
            return
        count = before.count if now.count == behind.count else now.count
        if sent.takes_buffer:
            later = self._boundary_behind(sent)
            (later or self).chunks[:0] = sent.chunks
            if later is not None and later.before is not None:
                later.is_dropped |= sent.is_dropped
                later.before = replace(later.before, begun=before.begun)
            else:
                is_too_long = now.is_too_long or sent.is_dropped
                current = now.current or before.current
                self.names = replace(now, count=count, current=current, is_too_long=is_too_long, begun=before.begun)
        elif sent.type in BOUNDARIES:
            self.names = replace(now, count=count)
        elif sent is self._turn and before != behind:
            is_too_long = now.is_too_long or before.is_too_long
            current = now.current or before.current
            frames = before.frames + now.frames
            begun = before.frames + now.begun if now.begun else before.begun
            self.names = replace(
                before, count=count, current=current, is_too_long=is_too_long, frames=frames, begun=begun
            )

    def refuse_chunk(self, seq: int) -> Sent | None:
        """Forget a chunk, which leaves a gap in its utterance."""
        utterances = [self.chunks, *(each.chunks for each in reversed(self.messages))]
        for chunks in utterances:
            for place in range(len(chunks) - 1, -1, -1):
                if chunks[place].seq == seq:
                    chunk = chunks.pop(place)
                    self._take_frames(chunk)
                    if chunks is self.chunks and place == len(chunks):
                        self._gap += chunk.step
                    elif chunks:
                        chunks[min(place, len(chunks) - 1)].step += chunk.step
                    if not self.chunks and chunks is self.chunks:
                        self.names = replace(self.names, current=None)
                    return chunk
        return None

    def take_buffer(self, sent: Sent) -> list[Sent]:
        """Take away the chunks that were in the buffer when this message came."""
        utterance = self._boundary_behind(sent) or self
        taken = [each for each in utterance.chunks if each.number < sent.number]
        utterance.chunks = utterance.chunks[len(taken) :]
        return taken

    def take_idle(self) -> list[Sent]:
        """Take away starts of streams that were stopped or restarted and owe nothing, and their stops."""
        idle: list[Sent] = []
        last: Sent | None = None
        for each in self.messages:
            if each.type in TURNS and each.is_answered and last and last.type == "start_stream" and last.is_answered:
                idle.append(last)
                last = each
                if each.type == "stop_stream":
                    idle.append(each)
                    last = None
            else:
                last = each
        for each in idle:
            del self.messages[each]
        return idle

    # What is kept

    @property
    def is_over(self) -> bool:
        return not self.messages and not self.names.is_open

    @property
    def goes_on(self) -> bool:
        """Whether the next process has it, too."""
        turns = [each for each in self.messages if each.type in TURNS]
        return bool(turns) and (turns[-1].type == "start_stream" or not turns[-1].is_answered)

    def boundary(self, utterance_id: str) -> Sent | None:
        ended = (each for each in self.messages if each.type in BOUNDARIES and each.utterance_id == utterance_id)
        return next(ended, None)

    def boundary_of(self, first: Sent) -> Sent | None:
        """The boundary of the utterance of its first chunk; None if it is open."""
        return next((each for each in self.messages if each.chunks[:1] == [first]), None)

    def lose_open(self, error: ClientError) -> None:
        """The open utterance was in the process that is gone, if its audio is not kept."""
        if self.names.is_too_long:
            self.names = replace(self.names, current=None, is_too_long=False, begun=self.names.frames)
            self.lost = error

    def _take_frames(self, refused: Sent) -> None:
        """What came behind a refused chunk begins earlier in the stream, up to its next start or stop."""
        count = frames_of(refused.members)
        behind = [each for each in self.messages if each.number > refused.number]
        is_open = True  # the utterance of the chunk
        for each in behind:
            if each.type in TURNS:
                return
            if each.takes_buffer and each.before is not None:
                begun = each.before.begun - (0 if is_open else count)
                each.before, is_open = replace(each.before, begun=begun), False
        now = self.names
        self.names = replace(now, frames=now.frames - count, begun=now.begun - (0 if is_open else count))

    def _end_utterance(self, boundary: Sent) -> None:
        boundary.is_dropped = boundary.before is not None and boundary.before.is_too_long
        boundary.chunks, self.chunks = self.chunks, []
        if boundary.chunks:
            boundary.chunks[-1].step += self._gap
            self._gap = 0

    def _boundary_behind(self, sent: Sent) -> Sent | None:
        return next((each for each in self.messages if each.takes_buffer and each.number > sent.number), None)

    def _is_in_use(self, utterance_id: str) -> bool:
        return self.boundary(utterance_id) is not None
