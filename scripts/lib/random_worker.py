"""The bridge's worker for random weights: its text has a known length, and a known share of each draft is accepted.

Margins and texts of random weights change with every rounding, so that no draft of theirs would be accepted. Each token
is computed, read, and then replaced by the next of a fixed text.
"""

from live_benchmark import forced_tokens, tokens_of

from qwen3_asr_mlx_runtime.engine import streaming_segment
from qwen3_asr_mlx_runtime.engine import worker as real_worker
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.model.speculative import decode_with_draft
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

TEXT = range(1_000, 11_000)  # ids; no token twice, so that nothing counts as repetition


def main(channel: int, accepted: float) -> None:
    """`channel`: the socket to the bridge. `accepted`: the share of a draft that the text begins with."""
    Tokenizer.eos_ids = frozenset()  # type: ignore[misc]
    Preparation.budget = lambda *given: tokens_of(given[2])  # type: ignore[method-assign]

    def decode(model, prompt, cache, draft, *rest, **options):
        return decode_with_draft(model, prompt, cache, draft[: round(accepted * len(draft))], *rest, **options)

    streaming_segment.decode_with_draft = decode
    with forced_tokens(TEXT):
        real_worker.main(channel)
