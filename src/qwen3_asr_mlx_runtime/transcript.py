"""What comes out of the engine: the text of an utterance, parsed from what the model wrote."""

from dataclasses import dataclass

from qwen3_asr_mlx_runtime.telemetry import Profile


@dataclass(frozen=True, slots=True)
class Transcript:
    """The whole result of one utterance.

    `text` is clean; `raw_text` is what the model wrote, metadata included (pieces of long audio joined by newlines).
    `language` is a canonical name, several joined by commas when pieces differ, or None where the model heard no speech.
    `finish_reason`: `stop`, `length` (the budget ended it) or `repetition` (the loop guard ended it); the worst of the
    pieces. `token_ids` end with the EOS token where there was one. `audio_output_lengths` has the audio tokens of each
    piece, `audio_embeddings_shape` is (their sum, the decoder's hidden size).
    """

    text: str
    language: str | None
    raw_text: str
    finish_reason: str
    token_ids: tuple[int, ...]
    audio_embeddings_shape: tuple[int, int]
    audio_output_lengths: tuple[int, ...]
    profile: Profile
    warnings: tuple[str, ...] = ()
