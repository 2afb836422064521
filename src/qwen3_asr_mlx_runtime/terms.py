"""Terms: words, names and phrases that a text is likely to have."""

from typing import Annotated

import msgspec
from msgspec import Meta

from qwen3_asr_mlx_runtime.limits import DEFAULT_TERM_WEIGHT, MAX_TERM_CHARACTERS, MAX_TERM_WEIGHT, MAX_TERMS


class Term(msgspec.Struct, frozen=True):
    """As it is to be written. `weight`: what the logit of its first token gains, in nats. Each further one gains twice
    as much, at most 4. 0 changes nothing."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_TERM_CHARACTERS, pattern=r"\S")]
    weight: Annotated[float, Meta(ge=0, le=MAX_TERM_WEIGHT)] = DEFAULT_TERM_WEIGHT


TermList = Annotated[list[Term], Meta(max_length=MAX_TERMS)]


def listed_terms(text: str) -> tuple[Term, ...]:
    """`Ada Lovelace,Menabrea=3` → its terms. Raises ValueError for one that is none."""
    return tuple(msgspec.convert([_members(each) for each in text.split(",")], TermList, strict=False))


def _members(written: str) -> dict[str, str]:
    text, is_weighted, weight = written.rpartition("=")
    return {"text": text.strip(), "weight": weight} if is_weighted else {"text": written.strip()}
