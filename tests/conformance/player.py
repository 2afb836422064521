"""Plays scenarios, which are data, against the real process; tests/scenarios/README.md says what one may hold."""

import base64
import json
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.client import TESTS, Client, command

SCENARIOS = TESTS / "scenarios"
ANYTHING, ABSENT = "…", "$absent"
MISSING = object()


def scenario_files() -> list[Path]:
    return sorted(SCENARIOS.glob("*.json"))


def engine_command(engine: str) -> list[str]:
    """`demo` is the bridge as it is, with the embedded checkpoint; the others have a stand-in for the engine."""
    if engine == "demo":
        return command(None, "--model", "demo", "--local-files-only")
    start = f"from conformance.engines import main; main({engine!r})"
    paths = [str(TESTS.parent / "src"), str(TESTS)]
    return [*command(None)[:3], f"import sys; sys.path[:0] = {paths!r}\n{start}"]


class Player:
    """One scenario on one process. Lines go through the protocol monitor, and stay in `lines`."""

    def __init__(self, client: Client, speech: str) -> None:
        self._client = client
        self._speech = speech

    @property
    def lines(self) -> list[dict]:
        return self._client.monitor.replies

    def play(self, steps: Sequence[Mapping[str, Any]]) -> None:
        for place, step in enumerate(steps, 1):
            kind = next(iter(step))
            try:
                getattr(self, f"_{kind}")(filled(step[kind], self._speech), step)
            except AssertionError as error:
                raise AssertionError(f"step {place} ({kind}): {error}") from error

    def _send(self, message: dict, step: Mapping[str, Any]) -> None:
        for n in range(1, step.get("repeat", 1) + 1):
            self._client.write(json.dumps(numbered(message, n)).encode())

    def _send_text(self, text: str, step: Mapping[str, Any]) -> None:
        self._client.write(text.encode() * step.get("times", 1))

    def _send_hex(self, digits: str, _step: Mapping[str, Any]) -> None:
        self._client.write(bytes.fromhex(digits))

    def _send_unended(self, text: str, _step: Mapping[str, Any]) -> None:
        self._client.monitor.sent(text.encode())
        self._client.process.stdin.write(text.encode())

    def _expect(self, expected: dict, step: Mapping[str, Any]) -> None:
        for _ in range(step.get("repeat", 1)):
            problem = mismatch(expected, self._client.read())
            assert problem is None, problem

    def _expect_in_any_order(self, expected: list[dict], _step: Mapping[str, Any]) -> None:
        waiting = list(expected)
        while waiting:
            line = self._client.read()
            fitting = [place for place, each in enumerate(waiting) if mismatch(each, line) is None]
            assert fitting, f"nothing expected fits {line['type']}: {mismatch(waiting[0], line)}"
            del waiting[fitting[0]]

    def _close(self, _close: bool, _step: Mapping[str, Any]) -> None:
        self._client.process.stdin.close()

    def _signal(self, name: str, _step: Mapping[str, Any]) -> None:
        self._client.signal(signal.Signals[name])

    def _exit(self, code: int, _step: Mapping[str, Any]) -> None:
        seen = len(self.lines)
        exited = self._client.wait(close=False)
        assert [line["type"] for line in self.lines[seen:]] == [], "more lines came"
        assert exited == code, f"expected exit code {code}, got {exited}"


def play(engine: str, options: Sequence[str], steps: Sequence[Mapping[str, Any]], speech: str) -> list[dict]:
    """The lines that were sent."""
    with Client([*engine_command(engine), *options]) as client:
        player = Player(client, speech)
        player.play(steps)
        return player.lines


def filled(value: Any, speech: str) -> Any:
    """`$speech` is the path of a recording, `$minute` that of `minute.wav` beside it; `$pcm:N` are N samples of silence
    in base64."""
    if isinstance(value, list):
        return [filled(each, speech) for each in value]
    if isinstance(value, dict):
        return {name: filled(each, speech) for name, each in value.items()}
    if isinstance(value, str) and (pcm := re.fullmatch(r"\$pcm:(\d+)", value)):
        return base64.b64encode(bytes(2 * int(pcm[1]))).decode()
    if value == "$minute":
        return str(Path(speech).with_name("minute.wav"))
    return speech if value == "$speech" else value


def numbered(message: dict, n: int) -> dict:
    """`$n` is the number of the repetition, from 1."""
    return {name: n if value == "$n" else value for name, value in message.items()}


def mismatch(expected: Any, actual: Any, path: str = "$") -> str | None:
    """What does not fit, as a path and a reason. Members that are not expected are allowed."""
    if expected == ABSENT:
        return None if actual is MISSING else f"{path}: there"
    if actual is MISSING:
        return f"{path}: missing"
    if expected == ANYTHING:
        return None
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return f"{path}: another list"
        pairs = zip(expected, actual, strict=True)
        return _first(mismatch(each, one, f"{path}[{place}]") for place, (each, one) in enumerate(pairs))
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return f"{path}: no object"
        return _first(mismatch(each, actual.get(name, MISSING), f"{path}.{name}") for name, each in expected.items())
    same = type(expected) is type(actual) or {type(expected), type(actual)} == {int, float}
    return None if same and expected == actual else f"{path}: expected {expected!r}, got {actual!r}"


def _first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem is not None), None)
