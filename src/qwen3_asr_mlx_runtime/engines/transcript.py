"""The engine's result: the text of an utterance, parsed from the model's output.

The model writes `language English<asr_text>Hello.`, or `language None<asr_text>` if there is no speech; when its
language is forced by the prompt, it writes only the text.
"""

import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby

import msgspec
from msgspec.structs import replace

from qwen3_asr_mlx_runtime.engines.profile import Profile, Reuse, join_profiles
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES

ASR_TEXT = "<asr_text>"

_LANGUAGE_LINE = re.compile(r"^\s*language ([^\n]*)", re.IGNORECASE | re.MULTILINE)
_LANGUAGE_ONLY = re.compile(r"language(?:\s+([^\s,]+(?:,\s*[^\s,]+)*,?))?", re.IGNORECASE)

_MAX_REPEATS = 20
_MAX_PERIOD = 8  # in tokens
_CHARACTER_RUN = re.compile(rf"(.)\1{{{_MAX_REPEATS},}}", re.DOTALL)
_PATTERN_RUN = re.compile(rf"(.{{1,20}}?)\1{{{_MAX_REPEATS - 1},}}", re.DOTALL)

# Thai, Lao, Burmese, Khmer, CJK radicals, punctuation, kana, bopomofo and ideographs, full-width forms: not Hangul.
WRITTEN_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u2e80-\u312f\u3190-\u4dbf\u4e00-\u9fff"
    "\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)
_ATTACHES_LEFT = frozenset(",.;:!?%‰…،؛؟٪۔।॥·")
_SENTENCE_MARKS = frozenset(".?!。．｡？！؟۔।॥")
_GREEK_MARKS = frozenset(";\u037e")  # ask
_ATTACHES_RIGHT = frozenset("¿¡")  # quotes are in neither: “ opens in English and closes in German


class Confidence(msgspec.Struct, frozen=True):
    """Probabilities of an utterance's tokens, those of its language and its end among them: their geometric mean, and
    the smallest."""

    mean: float
    minimum: float


class TextSegment(msgspec.Struct, frozen=True):
    """The text of one segment: of the samples `start` to `end` of its utterance, from code point `char_start` of its
    transcript's text on.

    `token_ends`, only with log-probabilities: where in `text` each of its tokens ends, in code points; one that ends
    within a character ends behind it. The last ends with the text. `token_logprobs` has the natural-log probability of
    each. Both are None where a loop of the text was undone. `repaired`: it is one of two parts of a segment that had
    ended in a loop.
    """

    start: int
    end: int
    text: str
    language: str | None
    finish_reason: str
    char_start: int = 0
    token_ends: tuple[int, ...] | None = None
    token_logprobs: tuple[float, ...] | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Transcript:
    """The whole result of one utterance.

    `text` is clean; `raw_text` is the model's output with metadata (segments of long audio joined by newlines), also of
    a segment that ended in a loop, whose two parts stand in its place everywhere else.
    `language` is a canonical name, several joined by commas if segments differ, or None if there is no speech.
    `language_probabilities`: of each of the languages that were allowed, the mean over the segments by their length;
    what is missing to 1 is that of none of them. None if all were allowed, or nothing was decoded. `finish_reason`:
    `stop`, `length` (the budget ended it) or `repetition` (the loop guard ended it); the worst of the segments.
    `token_ids` end with the EOS token if there was one. `audio_output_lengths` has the audio tokens of each segment,
    `audio_embeddings_shape` is (their sum, the decoder's hidden size). `logprobs` has the natural-log probability of
    each token, if requested. `redecoded` counts the segments that were decoded in a batch first and then again alone.
    `segments` has each segment, also one without text. `context_echo`: the text of a segment was an echo of context or
    terms, and was dropped. Only for an utterance with partials: `verified_tokens` counts the tokens accepted from
    drafts, and `reuse` the other results kept from partials.
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
    logprobs: tuple[float, ...] | None = None
    redecoded: int = 0
    verified_tokens: int | None = None
    reuse: Reuse | None = None
    segments: tuple[TextSegment, ...] = ()
    language_probabilities: dict[str, float] | None = None
    context_echo: bool = False

    @property
    def repaired(self) -> bool:
        """Whether a segment had ended in a loop and was decoded again in two parts."""
        return any(segment.repaired for segment in self.segments)

    @property
    def confidence(self) -> Confidence | None:
        if not self.logprobs:
            return None
        mean = sum(self.logprobs) / len(self.logprobs)
        return Confidence(mean=round(math.exp(mean), 4), minimum=round(math.exp(min(self.logprobs)), 4))


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The text of an open utterance so far; any of it may change.

    `text` and `language` as in a Transcript. `audio_seconds`: the audio it covers. `tokens`: the number of tokens, of
    which `verified` were accepted from the draft. `seconds`: of work. `probability`: of the last token of `text`, None
    where it has none. `interval_ms`: how much audio has to come before the next one, so that the engine keeps up; 0
    for any.
    """

    text: str
    language: str | None
    audio_seconds: float
    tokens: int
    verified: int
    seconds: float
    probability: float | None = None
    interval_ms: int = 0


SEVERITY = ("stop", "length", "repetition")


def join_transcripts(transcripts: Sequence[Transcript]) -> Transcript:
    """The transcripts of consecutive segments as one. A segment without a mel frame adds nothing."""
    if len(transcripts) == 1:
        return transcripts[0]
    segments = [each for each in transcripts if each.audio_output_lengths] or [*transcripts[:1]]
    logprobs = [each.logprobs for each in segments]
    audio_output_lengths = tuple(chain.from_iterable(each.audio_output_lengths for each in segments))
    text, char_starts = place_segments([each.text for each in transcripts])
    sample_starts = accumulate((sum(each.profile.audio_samples or ()) for each in transcripts), initial=0)
    return Transcript(
        text=text,
        language=join_languages([each.language for each in segments]),
        raw_text="\n".join(each.raw_text for each in segments),
        finish_reason=max((each.finish_reason for each in segments), key=SEVERITY.index),
        token_ids=tuple(chain.from_iterable(each.token_ids for each in segments)),
        audio_embeddings_shape=(sum(audio_output_lengths), segments[0].audio_embeddings_shape[1]),
        audio_output_lengths=audio_output_lengths,
        profile=join_profiles([each.profile for each in transcripts]),
        logprobs=None if None in logprobs else tuple(chain.from_iterable(each or () for each in logprobs)),
        redecoded=sum(each.redecoded for each in segments),
        segments=tuple(
            _moved(segment, sample_start, char_start)
            for each, sample_start, char_start in zip(transcripts, sample_starts, char_starts, strict=False)
            for segment in each.segments
        ),
        context_echo=any(each.context_echo for each in segments),
        language_probabilities=mean_probabilities(
            [each.language_probabilities for each in transcripts],
            [sum(each.profile.audio_samples or ()) for each in transcripts],
        ),
    )


def mean_probabilities(
    probabilities: Sequence[dict[str, float] | None], weights: Sequence[int]
) -> dict[str, float] | None:
    """The weighted mean of those that are not None, which have the same keys; None without one."""
    known = [(each, weight) for each, weight in zip(probabilities, weights, strict=True) if each is not None]
    total = sum(weight for _, weight in known)
    return {name: sum(each[name] * weight for each, weight in known) / total for name in known[0][0]} if known else None


def _moved(segment: TextSegment, samples: int, characters: int) -> TextSegment:
    return replace(
        segment,
        start=segment.start + samples,
        end=segment.end + samples,
        char_start=segment.char_start + characters,
    )


def text_tokens(
    raw: str, text: str, ends: Sequence[int | None], logprobs: Sequence[float]
) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """The tokens of a model's output → `token_ends` and `token_logprobs` of its clean text, without the tokens before
    and behind that. `ends`: where in `raw` each token ends, None for one without text. None where a loop was undone."""
    written = raw.strip()
    if fix_repetitions(written) != written:
        return None
    start = len(raw.rstrip()) - len(text)  # the text is the last that is written
    written_tokens = [(end, logprob) for end, logprob in zip(ends, logprobs, strict=True) if end is not None]
    kept = written_tokens[_overlapping([end for end, _ in written_tokens], start, start + len(text))]
    placed = [(min(end - start, len(text)), logprob) for end, logprob in kept]
    return tuple(end for end, _ in placed), tuple(logprob for _, logprob in placed)


def word_confidence(segment: TextSegment, char_start: int, char_end: int) -> float | None:
    """The geometric mean of the probabilities of the tokens that overlap `text[char_start:char_end]`; None if the
    segment has none."""
    if segment.token_ends is None or segment.token_logprobs is None:
        return None
    overlapping = segment.token_logprobs[_overlapping(segment.token_ends, char_start, char_end)]
    return round(math.exp(sum(overlapping) / len(overlapping)), 4) if overlapping else None


def _overlapping(ends: Sequence[int], start: int, end: int) -> slice:
    """Of consecutive tokens with these ends, those that overlap these characters. A part of a character counts as the
    whole."""
    first = stop = bisect_right(ends, start)
    while stop < len(ends) and min(ends[stop - 1] if stop else 0, ends[stop] - 1) < end:
        stop += 1
    return slice(first, stop)


def parse_transcript(raw: str, forced_language: str | None) -> tuple[str | None, str]:
    """The model's output → (language, clean text), by the grammar of the reference, qwen-asr 0.0.6.

    Blank → (None, ""). A forced language → (it, all of the text). `language None` → None: no guess. Without
    `<asr_text>` all is text, but for a lone `language English`, or its beginning: truncated metadata.
    Several languages are joined by commas; unlike in the reference, each is canonical and none is "None".
    """
    if forced_language is not None:
        return parse_text(raw, forced_language)
    written = fix_repetitions(raw.strip())
    if not written:
        return None, ""
    metadata, tag, text = written.partition(ASR_TEXT)
    if not tag:
        return _without_tag(written)
    if "language none" in metadata.lower():
        return None, text.strip()
    line = _LANGUAGE_LINE.search(metadata)
    return _joined(_language_names(line[1]) if line else []), text.strip()


def parse_text(raw: str, language: str | None) -> tuple[str | None, str]:
    """The model's output behind a prompt that names the language, None for no guess → (language, clean text)."""
    text = fix_repetitions(raw.strip())
    return language if text else None, text


def _without_tag(written: str) -> tuple[str | None, str]:
    metadata = _LANGUAGE_ONLY.fullmatch(written)
    if metadata is None:
        return None, written
    return _joined([name for name in _language_names(metadata[1] or "") if name in LANGUAGE_CODES]), ""


def _language_names(listed: str) -> list[str]:
    names = [name.strip().capitalize() for name in listed.split(",")]
    return [name for name in names if name and name != "None"]


def _joined(names: Sequence[str]) -> str | None:
    return ",".join(names) or None


def fix_repetitions(text: str) -> str:
    """Undo loops as the reference does: more than 20 of one character become one, then 20 or more of a pattern of up to
    20 characters become one, if at least 40 characters are left where the run begins.
    """
    text = _CHARACTER_RUN.sub(r"\1", text)
    last = len(text) - 2 * _MAX_REPEATS
    return _PATTERN_RUN.sub(lambda run: run[1] if run.start() <= last else run[0], text)


def loops(ids: Sequence[int]) -> bool:
    """Whether the ids end in 20 repeats of one run of at most 8 tokens."""
    for period in range(1, _MAX_PERIOD + 1):
        span = period * _MAX_REPEATS
        if len(ids) >= span and all(ids[-i] == ids[-i - period] for i in range(1, span - period + 1)):
            return True
    return False


def join_segments(texts: Sequence[str]) -> str:
    """The texts of consecutive segments as one, with spaces where the script uses them. Blank texts are dropped."""
    return place_segments(texts)[0]


def place_segments(texts: Sequence[str]) -> tuple[str, list[int]]:
    """The joined text, and where in it each of the texts begins, without the whitespace around it."""
    joined, starts = "", list[int]()
    for text in map(str.strip, texts):
        if joined and text and _spaced(joined[-1], text[0]):
            joined += " "
        starts.append(len(joined))
        joined += text
    return joined, starts


def _spaced(left: str, right: str) -> bool:
    if WRITTEN_WITHOUT_SPACES.match(left) or WRITTEN_WITHOUT_SPACES.match(right):
        return False
    if left in _ATTACHES_RIGHT or unicodedata.category(left) == "Ps":
        return False
    return right not in _ATTACHES_LEFT and unicodedata.category(right) not in ("Pe", "Mn", "Mc", "Me")


def ends_sentence(text: str, language: str | None) -> bool:
    """Whether a text ends with a sentence mark of any of the thirty languages, quotes, brackets and invisible
    characters behind it aside. An ellipsis ends none."""
    text = text.rstrip()
    while text and (text[-1] in "\"'" or unicodedata.category(text[-1]) in ("Pe", "Pf", "Pi", "Cf")):
        text = text[:-1].rstrip()
    is_greek = "Greek" in (language or "").split(",")
    return text[-1:] in (_SENTENCE_MARKS | _GREEK_MARKS if is_greek else _SENTENCE_MARKS)


def join_languages(languages: Sequence[str | None]) -> str | None:
    """The languages of consecutive segments, joined by commas, without None and without repetition."""
    names = [name for language in languages if language for name in language.split(",")]
    return _joined([name for name, _ in groupby(names)])
