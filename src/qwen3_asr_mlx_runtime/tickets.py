"""Requests on their way to their one reply."""

from msgspec import UNSET

from qwen3_asr_mlx_runtime.effects import AudioRead
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import BatchTranscribe, Rejected, Request, Transcribe
from qwen3_asr_mlx_runtime.protocol.replies import Reply, error_reply
from qwen3_asr_mlx_runtime.results import Item, batch_reply, transcript_reply
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.transcript import Transcript
from qwen3_asr_mlx_runtime.utterance import Utterance


class Ticket:
    """One request; `reply` is None until it is answered, and the first answer stands."""

    def __init__(self, request: Request | Rejected) -> None:
        self.reply: Reply | None = None
        self.load_seconds = 0.0  # of the load that this request caused
        self._id = request.id
        self._warnings = request.warnings if isinstance(request, Request) else ()

    def answer(self, reply: Reply) -> None:
        if self.reply is not None:
            return
        reply.id = self._id
        if self._warnings:
            reply.warnings = [*self._warnings, *(() if reply.warnings is UNSET else reply.warnings)]
        self.reply = reply

    def refuse(self, error: BridgeError) -> None:
        self.answer(error_reply(error))


class FilesTicket(Ticket):
    """A request that decodes files. It is answered when every item has its outcome."""

    def __init__(self, request: Request, command: Transcribe | BatchTranscribe) -> None:
        super().__init__(request)
        self._command = command
        paths = command.audio if isinstance(command, BatchTranscribe) else [command.audio]
        self.items = [Item(path) for path in paths]

    def utterance(self, audio: AudioRead, defaults: Settings) -> Utterance:
        """What the engine gets: the samples, and how to decode them."""
        asked = self._command
        return Utterance(
            samples=audio.samples,
            language=asked.language or defaults.language,
            context=defaults.context if asked.context is None else asked.context,
            max_new_tokens=defaults.max_new_tokens if asked.max_new_tokens is None else asked.max_new_tokens,
            warnings=audio.warnings,
        )

    def settle(self, item: Item, outcome: Transcript | BridgeError) -> None:
        item.outcome = outcome
        if isinstance(self._command, BatchTranscribe):
            if all(each.outcome is not None for each in self.items):
                self.answer(batch_reply(self.items, self._command.decoder_mode or "sequential", self.load_seconds))
        elif isinstance(outcome, Transcript):
            self.answer(transcript_reply(item, outcome, self.load_seconds))
        else:
            self.refuse(outcome)
