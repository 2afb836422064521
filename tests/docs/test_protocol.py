"""docs/protocol/ against the code: its tables are those of the types, and its examples are played."""

import json
import re
import wave
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
from conformance.player import Player, engine_command, mismatch
from e2e.client import Client
from support.protocol_monitor import LINES
from support.schema_check import check_lines, validator
from support.wave_file import write_silence

from qwen3_asr_mlx_runtime.bridge.lifecycle import FORCED_EXIT_SECONDS, Exit
from qwen3_asr_mlx_runtime.bridge.watchdog import STALL_SECONDS
from qwen3_asr_mlx_runtime.errors import error_classes, error_codes
from qwen3_asr_mlx_runtime.limits import LIMITS
from qwen3_asr_mlx_runtime.protocol import replies, streams, transcripts
from qwen3_asr_mlx_runtime.protocol.capabilities import FEATURES
from qwen3_asr_mlx_runtime.protocol.commands import COMMANDS, DECODER_MODES, WANTS
from qwen3_asr_mlx_runtime.protocol.json_text import MAX_DEPTH, MAX_MEMBERS
from qwen3_asr_mlx_runtime.session.delivery import Reason
from qwen3_asr_mlx_runtime.session.local_agreement import STABLE_HYPOTHESES, STABLE_SECONDS
from qwen3_asr_mlx_runtime.session.reply_queue import REMEMBERED, CancelState
from qwen3_asr_mlx_runtime.session.scheduler import READ_SECONDS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "protocol"
PAGES = {name: (FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in ("tutorial", "concepts", "reference")}
DOCUMENT = "\n".join(PAGES.values())
FOLDER_OF_RECORDINGS = "/recordings"
RECORDING = FOLDER.parents[1] / "examples" / "audio" / "english-ten.wav"
LATER = "…"

Rows = list[list[str]]


def section(heading: str) -> str:
    """The text under a heading, to the next one of its level or above."""
    level = heading.partition(" ")[0]
    _, found, rest = DOCUMENT.partition(f"\n{heading}\n")
    assert found, f"no heading {heading}"
    return re.split(rf"\n#{{1,{len(level)}}} ", rest)[0]


def table(heading: str, first: str) -> Rows:
    """The rows of the table whose first column has this title."""
    lines = section(heading).splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith(f"| {first} |")), None)
    if start is None:
        return []
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(rows: Rows) -> list[str]:
    return [row[0].strip("`") for row in rows]


MESSAGES = re.findall(r"^### ((?:Request|Reply|Event|Part) `\w+`)$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_member_has_a_meaning(message: str) -> None:
    """Rows, types and defaults are generated: tests/protocol/test_generated_types.py."""
    assert [row[0] for row in table(f"### {message}", "member") if not row[-1]] == []


def test_every_message_has_a_section_with_its_members() -> None:
    expected = {f"Request `{name}`" for name in COMMANDS}
    for line in LINES:
        expected.add(f"{'Event' if issubclass(line, streams.Event) else 'Reply'} `{line.__struct_config__.tag}`")
    assert {*MESSAGES} == {*expected, "Part `final_result`"}
    without = {"Request `capabilities`", "Request `ping`", "Request `status`"}
    assert {message for message in MESSAGES if not table(f"### {message}", "member")} == without


@pytest.mark.parametrize(
    ("heading", "member", "words"),
    [
        ("### Reply `status`", "queues", replies.Queues.__struct_fields__),
        ("### Reply `status`", "counters", replies.Counters.__struct_fields__),
        ("### Reply `status`", "versions", replies.Versions.__struct_fields__),
        ("### Reply `capabilities`", "server", replies.Server.__struct_fields__),
        ("### Reply `capabilities`", "audio", replies.AudioInput.__struct_fields__),
        ("### Reply `capabilities`", "models", replies.Models.__struct_fields__),
        (
            "### Reply `batch_transcript`",
            "items",
            [*transcripts.BatchItem.__struct_fields__[:-1], "error {code, message}"],
        ),
        ("### Reply `stopped`", "unfinished", transcripts.Unfinished.__struct_fields__),
        ("### Part `final_result`", "error", transcripts.ItemError.__struct_fields__),
        ("### Part `final_result`", "source", get_args(transcripts.Source)),
        ("### Reply `partial_result`", "gap", streams.Gap.__struct_fields__),
        ("### Reply `partial_result`", "split", streams.Split.__struct_fields__),
        ("### Reply `pong`", "state", get_args(replies.State)),
        ("### Reply `realtime_batch_final`", "reason", get_args(Reason)),
        ("### Reply `cancel_result`", "state", get_args(CancelState)),
        ("### Request `hello`", "want", WANTS),
        ("### Request `batch_transcribe`", "decoder_mode", DECODER_MODES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_member_may_hold_is_reported(heading: str, member: str, words: Sequence[str]) -> None:
    rows = table(heading, "member")
    meaning = rows[names(rows).index(member)][-1]
    assert [word for word in words if f"`{word}`" not in meaning] == []


def test_every_code_is_reported_and_whether_it_may_be_tried_again() -> None:
    rows = table("## Error codes", "code")
    assert sorted(names(rows)) == error_codes()
    retryable = {known.code for known in error_classes() if known.retryable}
    assert {name for name, row in zip(names(rows), rows, strict=True) if row[1] == "yes"} == retryable
    assert {row[1] for row in rows} == {"yes", "no"}


def test_the_codes_of_a_fatal_line_are_those_that_the_process_and_its_launchers_say() -> None:
    root = Path(__file__).resolve().parents[2]
    places = ("src/qwen3_asr_mlx_runtime/__main__.py", "scripts/lib/environment.sh", "scripts/lib/make_environment.py",
              "src/qwen3_asr_mlx_runtime/tools/install/launcher.sh")  # fmt: skip
    listed = {"internal_error"}  # by the daemon, as the conversation under this heading shows
    for place in places:
        found = re.findall(r'\bfatal ([a-z_]+) "|"code": ?"([a-z_]+)"', (root / place).read_text(encoding="utf-8"))
        assert found, place
        listed |= {word for pair in found for word in pair if word}
    rows = table("### Reply `fatal`", "code")
    assert set(names(rows)) == listed
    assert {int(row[1]) for row in rows} == {Exit.INTERNAL_ERROR, Exit.ENVIRONMENT}
    at_exit_2 = {name for name, row in zip(names(rows), rows, strict=True) if int(row[1]) == Exit.ENVIRONMENT}
    embedding = (root / "docs" / "embedding.md").read_text(encoding="utf-8").partition("## Exit codes")[2]
    assert [code for code in sorted(at_exit_2) if f"`{code}`" not in embedding] == []


def test_what_the_prose_says_of_limits() -> None:
    assert READ_SECONDS == STALL_SECONDS == 30
    assert (MAX_DEPTH, MAX_MEMBERS, REMEMBERED, FORCED_EXIT_SECONDS) == (32, 64, 1024, 1.5)
    assert {limit.code for limit in LIMITS.values()} - {None} <= {*error_codes()}


def test_how_long_a_text_must_stand_to_be_stable_is_reported() -> None:
    rule = f"at least {STABLE_HYPOTHESES} consecutive hypotheses over at least {STABLE_SECONDS:g} second of audio"
    assert rule in " ".join(section("## Partial text").split())


def test_every_feature_is_reported() -> None:
    assert names(table("## Features", "feature")) == FEATURES


def test_every_exit_code_is_reported() -> None:
    codes = [int(row[0]) for row in table("## The end", "exit code")]
    assert codes == sorted(Exit)
    listed = {int(code) for row in table("## The end", "what ends it") for code in re.findall(r"\d+", row[5])}
    assert listed == set(Exit) - {Exit.INTERNAL_ERROR, Exit.ENVIRONMENT}


@dataclass(frozen=True)
class Example:
    """A conversation of the document. Messages are as they stand there; `steps` are what a player does."""

    place: str
    engine: str
    lines: tuple[str, ...]

    def steps(self, speech: str) -> list[dict]:
        return [
            _step(_with_audio(line.replace(FOLDER_OF_RECORDINGS, str(Path(speech).parent))))
            for line in self.lines
            if line != f"← {LATER}"
        ]

    def messages(self, arrow: str) -> list[dict]:
        listed = [line[2:] for line in self.lines if line.startswith(f"{arrow} {{")]
        return [message for text in listed if (message := _message(text)) is not None]


def _examples(page: str) -> list[Example]:
    """A block that is `continued` belongs to the conversation of the block before it."""
    blocks = re.finditer(r"^```jsonl (session (\w+)|continued)\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    found: list[Example] = []
    for each in blocks:
        lines = tuple(each[3].splitlines())
        if each[1] == "continued":
            found[-1] = replace(found[-1], lines=found[-1].lines + lines)
        else:
            found.append(Example(f"{page}-{len(found)}", each[2], lines))
    return found


def _with_audio(line: str) -> str:
    """`$audio:A:B` are the samples A to B of a recording, in base64."""
    with wave.open(str(RECORDING), "rb") as file:
        pcm = file.readframes(file.getnframes())
    return re.sub(
        r"\$audio:(\d+):(\d+)", lambda part: b64encode(pcm[2 * int(part[1]) : 2 * int(part[2])]).decode(), line
    )


EXAMPLES = [example for page in PAGES for example in _examples(page)]


def _message(text: str) -> dict | None:
    """A message in which a bare … is anything; None for a line that is meant to be bad."""
    try:
        return json.loads(re.sub(r"(?<=[:\[,])…", '"…"', text))
    except ValueError:
        return None


def _step(line: str) -> dict:
    arrow, _, listed = line.partition(" ")
    if exit_code := re.fullmatch(r"\(exit (\d+)\)", listed):
        return {"exit": int(exit_code[1])}
    if listed == "(end of input)":
        return {"close": True}
    if named := re.fullmatch(r"\((SIG\w+)\)", listed):
        return {"signal": named[1]}
    message = _message(listed)
    if arrow == "→":
        return {"send_text": listed} if message is None else {"send": message}
    assert message is not None, f"not JSON: {listed}"
    return {"expect": message}


class Reader(Player):
    """A player that may leave out lines where the document does."""

    def play_lines(self, example: Example, speech: str) -> None:
        steps = iter(example.steps(speech))
        leaves_out = False
        for line in example.lines:
            if line == f"← {LATER}":
                leaves_out = True
                continue
            step = next(steps)
            if leaves_out:
                self.skip_to(step["expect"])
            else:
                self.play([step])
            leaves_out = False

    def skip_to(self, expected: dict) -> None:
        while mismatch(expected, self._client.read()) is not None:
            pass


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("recordings")
    write_silence(folder / "film.wav", 960_000)
    return write_silence(folder / "seven.wav", 8_000)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.place}-{example.engine}")
def test_the_example_is_what_the_process_says(example: Example, speech: str) -> None:
    with Client(engine_command(example.engine)) as client:
        reader = Reader(client, speech)
        reader.play_lines(example, speech)
        check_lines(reader.lines)


def test_the_tutorial_is_one_conversation() -> None:
    assert [example.engine for example in _examples("tutorial")] == ["demo"]


def test_no_two_pages_have_a_section_of_one_name() -> None:
    headings = re.findall(r"^#+ .*$", DOCUMENT, re.MULTILINE)
    assert [heading for heading, times in Counter(headings).items() if times > 1] == []


def test_there_is_an_example_of_every_message() -> None:
    sent = {message["type"] for example in EXAMPLES for message in example.messages("→")}
    read = {message["type"] for example in EXAMPLES for message in example.messages("←")}
    assert sent == set(COMMANDS)
    assert read == {line.__struct_config__.tag for line in LINES}


def test_what_the_examples_send_is_in_the_schema() -> None:
    refused = []
    for message in (message for example in EXAMPLES for message in example.messages("→")):
        if not validator("Request").is_valid(message):
            refused.append(message)
    assert refused == [{"type": "start_stream", "batch_size": 99}]  # the example of what is refused
