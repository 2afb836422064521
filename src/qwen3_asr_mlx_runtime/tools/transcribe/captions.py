"""The words or segments of a transcript → captions: what a subtitle shows at a time.

The rules are the field's: at most two lines of 42 columns, 1 to 7 seconds, at most 17 columns a second where the speech
allows, breaks at punctuation and pauses. A wide character takes two columns.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest

from qwen3_asr_mlx_runtime.engines.transcript import WRITTEN_WITHOUT_SPACES, ends_sentence, place_segments
from qwen3_asr_mlx_runtime.protocol.transcripts import Segment, Word

LINE_COLUMNS = 42
MIN_SECONDS, MAX_SECONDS = 1.0, 7.0
COLUMNS_PER_SECOND = 17.0
LONG_PAUSE_SECONDS = 1.5  # no caption stays over it
GAP_SECONDS = 0.08  # between captions that would touch: two frames, at 25 a second

_PAUSE_SECONDS = 0.3  # as good a place to break as a comma
_SHORTEST_SECONDS = 0.01  # of a caption to which its times leave nothing
_HASTY_SECONDS = 0.5  # a shorter caption counts as one of so long: words without times of their own would have many
_CLAUSE_MARKS = frozenset(",:;…–—、，：；،؛·")
# Their full stop ends no sentence.
_ABBREVIATION = re.compile(
    r"(?:\w|(?:\w\.)+\w|mr|mrs|ms|dr|st|prof|sr|sra|jr|hr|fr|nr|no|mme|mlle|vs)\.", re.IGNORECASE
)
_TOKEN = re.compile(r"\S+")
Token = tuple[str, bool]
"""A text, and whether white space precedes it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A word with its punctuation, or a part of one that is longer than a line. Times in seconds from the first sample
    of the file."""

    text: str
    start: float
    end: float
    is_spaced: bool


@dataclass(frozen=True, slots=True)
class Caption:
    """One or two lines. Times in seconds from the first sample of the file; none overlaps the next."""

    start: float
    end: float
    lines: tuple[str, ...]


def columns(text: str) -> int:
    """The width of a text."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # drawn over the one before, or not at all
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pieces_of_words(text: str, words: Iterable[Word]) -> list[Piece]:
    """`text`: the transcript, which the ranges of its words cover. Where a whole segment is one word, its pieces share
    its time by their width."""
    pieces: list[Piece] = []
    is_spaced = False
    for word in words:
        written = text[word.char_start : word.char_end]
        is_spaced = is_spaced or written[:1].isspace()
        is_segment = word.time_confidence is None
        pieces += _spread(
            _tokens(word.text, is_spaced) if is_segment else [(word.text, is_spaced)], word.start, word.end
        )
        is_spaced = written[-1:].isspace()
    return pieces


def pieces_of_segments(segments: Sequence[Segment]) -> list[Piece]:
    """Without words: the pieces of each segment share its time by their width."""
    text, char_starts = place_segments([each.text for each in segments])
    return [
        piece
        for each, char_start in zip(segments, char_starts, strict=True)
        for piece in _spread(_tokens(each.text, text[:char_start][-1:].isspace()), each.start, each.end)
    ]


def _tokens(text: str, is_spaced: bool) -> list[Token]:
    """What white space separates. In scripts without spaces: each letter, with the punctuation behind it."""
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        tokens.append(("", is_spaced or bool(tokens)))
        for character in match[0]:
            before = tokens[-1][0]
            is_free = WRITTEN_WITHOUT_SPACES.match(character) or WRITTEN_WITHOUT_SPACES.match(before[-1:])
            if before and is_free and unicodedata.category(character)[0] in "LN":
                tokens.append((character, False))
            else:
                tokens[-1] = before + character, tokens[-1][1]
    return tokens


def _spread(tokens: Iterable[Token], start: float, end: float) -> Iterator[Piece]:
    """Each with its share of the time, and those that are longer than a line in parts."""
    parts = [(part, is_spaced and not place) for token, is_spaced in tokens for place, part in enumerate(_cut(token))]
    passed = [*accumulate((columns(part) for part, _ in parts), initial=0)]
    times = [start + (end - start) * each / max(1, passed[-1]) for each in passed]
    for (part, is_spaced), (at, until) in zip(parts, pairwise(times), strict=True):
        yield Piece(part, at, until, is_spaced)


def _cut(token: str) -> list[str]:
    parts = [""]
    for character in token:
        if columns(parts[-1] + character) > LINE_COLUMNS:
            parts.append("")
        parts[-1] += character
    return parts


def captions(pieces: Sequence[Piece], language: str | None) -> list[Caption]:
    """The captions that cost least together. `language`: as in a transcript."""
    layout = _Layout(pieces, language)
    costs, begins = [0.0], [0]
    for end in range(1, len(pieces) + 1):
        cost, begin = min((costs[begin] + layout.cost(begin, end), begin) for begin in layout.begins(end))
        costs.append(cost)
        begins.append(begin)
    spans: list[tuple[int, int]] = []
    end = len(pieces)
    while end:
        spans.append((begins[end], end))
        end = begins[end]
    return [*_timed(layout, spans[::-1])]


def _timed(layout: "_Layout", spans: Iterable[tuple[int, int]]) -> Iterator[Caption]:
    free = 0.0  # the captions before are shown until then
    for begin, end in spans:
        start = max(free, layout.pieces[begin].start)
        free = max(layout.shown_until(begin, end, start), start + _SHORTEST_SECONDS)
        yield Caption(start, free, layout.lines(begin, end))


class _Layout:
    """Possible captions, each the pieces from `begin` to before `end`."""

    def __init__(self, pieces: Sequence[Piece], language: str | None) -> None:
        self.pieces = pieces
        self._widths = [*accumulate((columns(each.text) + each.is_spaced for each in pieces), initial=0)]
        self._breaks = [_break_cost(*pair, language) for pair in zip_longest(pieces, pieces[1:])]

    def begins(self, end: int) -> Iterator[int]:
        """Where a caption that ends before `end` may begin."""
        for begin in range(end - 1, -1, -1):
            if begin < end - 1 and not self._may_grow_to(begin, end):
                return
            yield begin

    def _may_grow_to(self, begin: int, end: int) -> bool:
        first, second, last = self.pieces[begin], self.pieces[begin + 1], self.pieces[end - 1]
        is_short = last.end - first.start <= MAX_SECONDS
        return is_short and second.start - first.end <= LONG_PAUSE_SECONDS and self._fits(begin, end)

    def _fits(self, begin: int, end: int) -> bool:
        return self._width(begin, end) <= LINE_COLUMNS or any(True for _ in self._second_lines(begin, end))

    def cost(self, begin: int, end: int) -> float:
        """What is wrong with a caption: where it ends, how fast it must be read, how short it is. Where two divisions
        cost the same, the longer captions are taken."""
        start = self.pieces[begin].start
        shown = self.shown_until(begin, end, start) - start
        haste = max(0.0, self._width(begin, end) / COLUMNS_PER_SECOND / max(shown, _HASTY_SECONDS) - 1)
        brief = max(0.0, MIN_SECONDS - shown)
        return self._breaks[end - 1] + 8 * haste + 40 * brief

    def shown_until(self, begin: int, end: int, start: float) -> float:
        """When a caption that is shown from `start` goes away: once it is said and can be read, or for the next."""
        said = self.pieces[end - 1].end
        read = start + max(MIN_SECONDS, self._width(begin, end) / COLUMNS_PER_SECOND)
        until = min(max(said, read), start + MAX_SECONDS)
        if end == len(self.pieces):
            return until
        following = self.pieces[end].start
        return min(until, max(following - GAP_SECONDS, min(said, following)))

    def lines(self, begin: int, end: int) -> tuple[str, ...]:
        second = self._second_line(begin, end)
        return tuple(self._line(*span) for span in ((begin, second), (second, end)) if span[0] < span[1])

    def _line(self, begin: int, end: int) -> str:
        return "".join(" " * each.is_spaced + each.text for each in self.pieces[begin:end]).strip()

    def _second_line(self, begin: int, end: int) -> int:
        """The first piece of the second line: two lines about as long, the break at punctuation rather. `end` for one
        line."""
        if self._width(begin, end) <= LINE_COLUMNS:
            return end
        return min(self._second_lines(begin, end), key=lambda second: self._line_cost(begin, second, end), default=end)

    def _second_lines(self, begin: int, end: int) -> Iterator[int]:
        for second in range(begin + 1, end):
            if self._width(begin, second) > LINE_COLUMNS:
                return
            if self._width(second, end) <= LINE_COLUMNS:
                yield second

    def _line_cost(self, begin: int, second: int, end: int) -> float:
        return abs(self._width(begin, second) - self._width(second, end)) / 10 + self._breaks[second - 1]

    def _width(self, begin: int, end: int) -> int:
        return self._widths[end] - self._widths[begin] - self.pieces[begin].is_spaced


def _break_cost(piece: Piece, following: Piece | None, language: str | None) -> float:
    """What is wrong with a break behind a piece."""
    if following is None or _ends_sentence(piece, following, language):
        return 0.0
    if piece.text[-1:] in _CLAUSE_MARKS or following.start - piece.end >= _PAUSE_SECONDS:
        return 1.0
    return 3.0 if following.is_spaced else 4.0


def _ends_sentence(piece: Piece, following: Piece, language: str | None) -> bool:
    goes_on = piece.text.endswith(".") and (_ABBREVIATION.fullmatch(piece.text) or following.text[:1].islower())
    return not goes_on and ends_sentence(piece.text, language)
