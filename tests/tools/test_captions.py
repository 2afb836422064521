"""Captions of scripts/qwen3-asr-mlx-transcribe: the rules of the field, and files that other parsers read."""

import io
from collections.abc import Sequence
from html import unescape
from itertools import pairwise

import msgspec
import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.client.results import TranscriptReply
from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.transcript import place_segments
from qwen3_asr_mlx_runtime.protocol.transcripts import Segment, Word
from qwen3_asr_mlx_runtime.tools.transcribe.captions import (
    COLUMNS_PER_SECOND,
    LINE_COLUMNS,
    LONG_PAUSE_SECONDS,
    MAX_SECONDS,
    MIN_SECONDS,
    Caption,
    Piece,
    captions,
    columns,
    pieces_of_segments,
    pieces_of_words,
)
from qwen3_asr_mlx_runtime.tools.transcribe.formats import FORMATS, Result, json_line

SPEECH = (
    "The night train left an hour late, because the driver had missed his own connection. Nobody minded. We had bread,"
    " two oranges and a pack of cards, and the guard, who knew every station by its smell, told us where we were."
    " Really? Yes, he did! Somewhere behind the second tunnel it began to snow; from then on we only whispered."
)


def spoken(text: str, *, rate: float = 14.0, pauses: dict[str, float] | None = None) -> list[Piece]:
    """Words at so many characters a second, with pauses behind these marks."""
    silence = {".": 0.5, "?": 0.5, "!": 0.5, ";": 0.3, ",": 0.2} | (pauses or {})
    pieces, at = [], 0.0
    for word in text.split():
        until = at + (len(word) + 1) / rate
        pieces.append(Piece(word, at, until, bool(pieces)))
        at = until + silence.get(word[-1], 0.0)
    return pieces


def words_of(caption: Caption) -> list[str]:
    return " ".join(caption.lines).split()


def seconds(caption: Caption) -> float:
    return caption.end - caption.start


def width(caption: Caption) -> int:
    return columns(" ".join(caption.lines))


class TestRules:
    def test_a_caption_has_two_lines_of_42_columns_and_1_to_7_seconds(self) -> None:
        made = captions(spoken(SPEECH * 5), "English")
        assert max(len(each.lines) for each in made) == 2
        assert max(columns(line) for each in made for line in each.lines) <= LINE_COLUMNS
        assert all(MIN_SECONDS <= seconds(each) <= MAX_SECONDS for each in made)

    def test_every_word_is_shown_once_in_order_from_when_it_is_said(self) -> None:
        pieces = spoken(SPEECH)
        made = captions(pieces, "English")
        assert [word for each in made for word in words_of(each)] == SPEECH.split()
        starts = {caption.start for caption in made}
        assert starts <= {piece.start for piece in pieces}
        assert all(earlier.end <= later.start for earlier, later in pairwise(made))

    def test_slow_speech_is_read_at_17_characters_a_second_at_most(self) -> None:
        made = captions(spoken(SPEECH), "English")
        assert max(width(each) / seconds(each) for each in made) <= COLUMNS_PER_SECOND

    def test_fast_speech_uses_the_silence_behind_it(self) -> None:
        pieces = [*spoken("Everything he said came out in one breath.", rate=40.0), Piece("So?", 5.0, 5.3, True)]
        first = captions(pieces, "English")[0]
        assert first.end > 42 / 40 + 0.5
        assert width(first) / seconds(first) == pytest.approx(COLUMNS_PER_SECOND)

    def test_captions_end_with_sentences_and_clauses_where_they_can(self) -> None:
        made = captions(spoken(SPEECH), "English")
        ends = [each.lines[-1][-1] for each in made]
        assert sum(mark in ".,;?!" for mark in ends) >= len(ends) - 1

    def test_lines_break_at_punctuation_and_are_about_as_long(self) -> None:
        (made,) = captions(spoken("When the rain had stopped, the whole street smelt of wet dust."), "English")
        assert made.lines == ("When the rain had stopped,", "the whole street smelt of wet dust.")
        (made,) = captions(spoken("Seven eight nine ten eleven twelve thirteen fourteen fifteen"), "English")
        assert max(map(len, made.lines)) - min(map(len, made.lines)) < 10

    def test_no_caption_stays_over_a_long_pause(self) -> None:
        made = captions(spoken("one two three... four five", pauses={".": LONG_PAUSE_SECONDS + 0.1}), None)
        assert [words_of(each) for each in made] == [["one", "two", "three..."], ["four", "five"]]

    def test_a_short_word_alone_is_shown_for_a_second(self) -> None:
        (made,) = captions([Piece("No.", 3.0, 3.2, False)], "English")
        assert made == Caption(3.0, 4.0, ("No.",))

    def test_sentences_rather_than_clauses_end_captions(self) -> None:
        text = "After nine o'clock, when the last boat had left, we walked home. Not one of us, as I recall, was tired."
        first, second = captions(spoken(text, pauses=dict.fromkeys(".,", 0.0)), "English")
        assert (first.lines[-1][-5:], second.lines[0][:3]) == ("home.", "Not")

    def test_a_short_answer_between_long_sentences_is_no_caption_of_a_third_of_a_second(self) -> None:
        long = "Everybody on the lower deck had seen the light that came and went beside the pier."
        pieces = spoken(f"{long} No. {long}", pauses={".": 0.0})
        assert len(long) > LINE_COLUMNS * 2 - 5
        made = captions(pieces, "English")
        assert min(map(seconds, made)) >= MIN_SECONDS

    def test_a_caption_ends_two_frames_before_the_next(self) -> None:
        text = "Everybody on the lower deck had seen the light that came and went by the pier."
        first, second = captions(spoken(f"{text} {text}", rate=30.0, pauses={".": 0.5}), "English")
        assert second.start - first.end == pytest.approx(0.08)

    @pytest.mark.parametrize(
        ("text", "apart"),
        [
            ("Everybody who had worked at the harbour all day knew that old Mr. Henderson would never sell it.", "Mr."),
            ("The first expedition that reached the southern lake was led by Dr. Amelia Whitcombe of York.", "Dr."),
            ("Nothing like this had been recorded before, according to the U.S. Department of Energy itself.", "U.S."),
            ("We had seen them all the day before, the boats, the nets, etc. and nobody had touched a thing.", "etc."),
        ],
    )
    def test_an_abbreviation_ends_no_sentence(self, text: str, apart: str) -> None:
        first, *_ = captions(spoken(text, pauses={".": 0.0}), "English")
        assert not first.lines[-1].endswith(apart)

    def test_words_that_all_have_one_time_stay_together(self) -> None:
        made = captions([Piece("word", 5.0, 5.0, True) for _ in range(170)], None)
        assert len(made) == -(-170 // 16)

    def test_a_pause_ends_a_caption_where_no_mark_does(self) -> None:
        text = "first we saw the light and then we heard the bell% and nobody on the pier had any doubt what it was"
        first, _ = captions(spoken(text, pauses={"%": 0.4}), None)
        assert first.lines[-1].endswith("bell%")

    def test_a_space_ends_a_caption_in_a_script_that_has_few(self) -> None:
        first, second = captions(pieces_of_segments([segment(0.0, 10.0, "ก" * 70 + " " + "ข" * 40)]), "Thai")
        assert (first.lines[-1][-1], second.lines[0][0]) == ("ก", "ข")

    def test_a_caption_goes_on_behind_a_comma_rather_than_be_gone_before_it_can_be_read(self) -> None:
        fast = spoken("Before anybody could even turn round to look at him,", rate=26.0, pauses={",": 0.0})
        slow = spoken("he had very slowly and without a word put it all back.", rate=9.0)
        pieces = [*fast, *(Piece(e.text, e.start + fast[-1].end, e.end + fast[-1].end, True) for e in slow)]
        first = captions(pieces, "English")[0]
        assert width(first) / seconds(first) <= COLUMNS_PER_SECOND

    def test_nothing_said_is_no_caption(self) -> None:
        assert captions([], None) == []


def timed(text: str, start: float, end: float, char_start: int = 0, char_end: int | None = None) -> Word:
    return Word(
        text=text,
        start=start,
        end=end,
        char_start=char_start,
        char_end=len(text) if char_end is None else char_end,
        confidence=None,
        time_confidence=1,
    )


letters = st.text(st.sampled_from("aé语ไกن.,!?-"), min_size=1, max_size=60)
times = st.one_of(st.just(0.0), st.floats(0, 8))


@st.composite
def random_pieces(draw: st.DrawFn) -> list[Piece]:
    at, pieces = 0.0, list[Piece]()
    for text in draw(st.lists(letters, max_size=25)):
        start = at + draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 3.0]))
        at = start + draw(times)
        word = Word(
            text=text, start=start, end=at, char_start=0, char_end=len(text), confidence=None, time_confidence=1
        )
        pieces += pieces_of_words(text, [word])
    return pieces


class TestAnything:
    @given(random_pieces())
    def test_whatever_the_times_nothing_is_lost_overlaps_or_is_too_wide(self, pieces: Sequence[Piece]) -> None:
        made = captions(pieces, None)
        shown = "".join("".join(each.lines) for each in made).replace(" ", "")
        assert shown == "".join(piece.text for piece in pieces)
        assert all(1 <= len(each.lines) <= 2 for each in made)
        assert all(columns(line) <= LINE_COLUMNS for each in made for line in each.lines)
        assert all(0 < seconds(each) <= MAX_SECONDS + 1e-6 for each in made)
        assert all(earlier.end <= later.start for earlier, later in pairwise(made))


class TestPieces:
    def test_words_keep_the_spaces_of_the_transcript(self) -> None:
        text = "Say 你好 now"
        spans = [(0, 4), (4, 5), (5, 7), (7, 10)]
        words = [timed(text[a:b].strip(), a, b, a, b) for a, b in spans]
        made = captions([Piece(each.text, 0, 1, each.is_spaced) for each in pieces_of_words(text, words)], None)
        assert made[0].lines == (text,)

    def test_a_segment_without_times_of_words_shares_its_time_among_them(self) -> None:
        text = "one three"
        word = Word(text=text, start=2.0, end=10.0, char_start=0, char_end=9, confidence=None, time_confidence=None)
        assert pieces_of_words(text, [word]) == [Piece("one", 2.0, 5.0, False), Piece("three", 5.0, 10.0, True)]

    def test_segments_share_their_time_by_width(self) -> None:
        segments = [segment(0.0, 8.0, "one three"), segment(8.0, 10.0, "你好。")]
        assert pieces_of_segments(segments) == [
            Piece("one", 0.0, 3.0, False),
            Piece("three", 3.0, 8.0, True),
            Piece("你", 8.0, pytest.approx(8 + 2 / 3), False),
            Piece("好。", pytest.approx(8 + 2 / 3), 10.0, False),
        ]

    def test_what_is_longer_than_a_line_is_cut(self) -> None:
        pieces = pieces_of_segments([segment(0.0, 3.0, "x" * 100)])
        assert [(len(each.text), each.is_spaced) for each in pieces] == [(42, False), (42, False), (16, False)]
        assert [each.start for each in pieces] == pytest.approx([0.0, 1.26, 2.52])

    def test_wide_characters_take_two_columns_and_marks_above_others_none(self) -> None:
        assert [columns(text) for text in ("ab", "语言", "é", "e\u0301", "ก็", "ｱ")] == [2, 4, 1, 1, 1, 1]


def segment(start: float, end: float, text: str) -> Segment:
    return Segment(start=start, end=end, text=text, finish_reason="stop")


def result(*segments: Segment, words: list[Word] | None = None, language: str | None = "English") -> Result:
    text, _ = place_segments([each.text for each in segments])
    reply = TranscriptReply(
        audio="/talk.wav",
        text=text,
        language=language,
        raw_text=text,
        finish_reason="stop",
        generated_tokens=1,
        generated_token_ids=[1],
        audio_embeddings_shape=[1, 1],
        audio_output_lengths=[1],
        segments=[*segments],
        rms_dbfs=None,
        decode_seconds=None,
        total_seconds=None,
        load_seconds=0.0,
        decoder_mode="batched",
        redecoded=0,
        profile=Profile(stage="transcribe", audio_seconds=segments[-1].end if segments else 0.0),
    )
    if words is not None:
        reply.words = words
    return Result("talk.wav", "demo", reply)


STRANGE = (
    "He wrote <b>5 & 6</b> --> 7; then {\\an8} left.\u200f مرحبا بالعالم 你好，世界。 It was 1\u00a0000\u202fm away"
)


class TestFiles:
    def test_another_parser_reads_the_srt_as_it_was_meant(self) -> None:
        one = result(segment(0.0, 20.0, SPEECH), segment(3700.5, 3720.0, "And 5 & 6 <i>later</i>."))
        parsed = [*srt.parse(FORMATS["srt"](one), ignore_errors=False)]
        assert [each.index for each in parsed] == [*range(1, len(parsed) + 1)]
        assert [each.content for each in parsed] == ["\n".join(each.lines) for each in one.captions]
        assert [each.start.total_seconds() for each in parsed] == pytest.approx(
            [each.start for each in one.captions], abs=5e-4
        )
        assert [each.end.total_seconds() for each in parsed] == pytest.approx(
            [each.end for each in one.captions], abs=5e-4
        )

    def test_another_parser_reads_the_vtt_as_it_was_meant(self) -> None:
        one = result(segment(0.0, 20.0, SPEECH), segment(3700.5, 3720.0, "And 5 & 6 <i>later</i> --> done."))
        text = FORMATS["vtt"](one)
        parsed = [*webvtt.from_buffer(io.StringIO(text))]
        assert [unescape(each.text) for each in parsed] == ["\n".join(each.lines) for each in one.captions]
        assert [each.start_in_seconds + each.start_time.milliseconds / 1000 for each in parsed] == pytest.approx(
            [each.start for each in one.captions], abs=1e-3
        )
        assert "&lt;i&gt;" in text

    @given(st.lists(st.sampled_from([*STRANGE.split(), *SPEECH.split()]), max_size=40))
    def test_whatever_is_said_both_parsers_find_every_caption(self, said: list[str]) -> None:
        one = result(segment(0.0, 1 + len(said) / 3, " ".join(said)))
        lines = [each.lines for each in one.captions]
        assert [tuple(each.content.split("\n")) for each in srt.parse(FORMATS["srt"](one))] == lines
        read = [*webvtt.from_buffer(io.StringIO(FORMATS["vtt"](one)))]
        assert len(read) == len(lines)

    def test_a_table_has_a_row_for_each_caption_in_milliseconds(self) -> None:
        rows = FORMATS["tsv"](result(segment(0.25, 3.5, "One two."), segment(8.0, 9.25, "Three."))).splitlines()
        assert rows == ["start\tend\ttext", "250\t3500\tOne two.", "8000\t9250\tThree."]

    def test_text_has_a_line_for_each_segment_that_says_something(self) -> None:
        one = result(segment(0, 9, "One two."), segment(9, 12, ""), segment(12, 15, "Three."))
        assert FORMATS["txt"](one) == "One two.\nThree.\n"

    def test_json_has_what_was_asked_for_and_no_more(self) -> None:
        word = Word(text="One", start=0, end=1, char_start=0, char_end=3, confidence=0.5, time_confidence=0.5)
        plain, timed = result(segment(0, 9, "One")), result(segment(0, 9, "One"), words=[word])
        members = msgspec.json.decode(FORMATS["json"](timed))
        assert {"audio": "talk.wav", "audio_seconds": 9.0, "model": "demo", "text": "One"}.items() <= members.items()
        assert members["words"][0]["end"] == 1
        assert members == msgspec.json.decode(json_line(timed))
        assert "words" not in msgspec.json.decode(json_line(plain))
        assert json_line(plain).count("\n") == 1

    def test_silence_gives_files_that_are_valid_and_empty(self) -> None:
        silent = result(segment(0, 9, ""), language=None)
        assert [FORMATS[name](silent) for name in ("txt", "srt")] == ["", ""]
        assert [*webvtt.from_buffer(io.StringIO(FORMATS["vtt"](silent)))] == []
