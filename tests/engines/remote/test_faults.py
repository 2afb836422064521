"""What servers may do wrong, and what becomes of the audio that they had."""

import asyncio
import gc
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from engines.remote.conftest import Remote, needs_recording, new_front, until
from support.vllm_front import HOLD, Answers, Front, Reply, recorded

from qwen3_asr_mlx_runtime.engines.api import Finished, Load, Loaded, LoadFailed, Partial
from qwen3_asr_mlx_runtime.engines.remote import exchange, pool, server
from qwen3_asr_mlx_runtime.engines.utterance import Samples

Connect = Callable[..., Remote]
Audio = Callable[[str], Samples]
TEXT = "Seven three one."


def assert_well(remote: Remote, audio: Audio) -> None:
    outcome = remote.final(audio("sample"), id=99)
    assert isinstance(outcome, Finished), outcome.error
    assert outcome.transcript.text == TEXT


@pytest.mark.parametrize("fault", ["reset", "half", "abort", 502, 504, 429, 503])
def test_what_was_not_answered_is_asked_again(front: Front, connect: Connect, audio: Audio, fault: object) -> None:
    remote = connect(front)
    before = len(front.asked)
    front.faults.append(fault)
    assert remote.final(audio("sample")).transcript.text == TEXT
    assert len(front.asked) - before == 2


@pytest.mark.parametrize(
    ("fault", "code", "data"),
    [
        (500, "engine_rejected", {"status": 500}),
        (400, "engine_rejected", {"status": 400}),
        (401, "engine_rejected", {"status": 401}),
        (404, "engine_incompatible", {"status": 404}),
        (302, "engine_incompatible", {"status": 302}),
        ("gzip", "engine_incompatible", {}),  # it was not asked for: a small answer may hold any size
        ("garbage", "engine_incompatible", {}),
        ("strange", "engine_incompatible", {}),
    ],
)
def test_what_was_answered_is_not_asked_again(
    front: Front, connect: Connect, audio: Audio, fault: object, code: str, data: dict
) -> None:
    remote = connect(front)
    before = len(front.asked)
    front.faults.append(fault)
    error = remote.final(audio("sample")).error
    assert (error.code, error.retryable, error.data, len(front.asked) - before) == (code, False, data, 1)
    assert_well(remote, audio)


def test_a_failure_behind_the_first_events_is_an_answer_only_of_a_server_that_is_well(
    front: Front, connect: Connect, audio: Audio
) -> None:
    remote = connect(front)
    front.is_well = False
    front.faults.append("failed")
    remote.start(1, audio("sample"), language="English")
    [member] = remote.engine._connection._pool._members
    until(lambda: member.trouble and not member.outstanding)
    front.is_well = True
    assert remote.next().transcript.text == TEXT
    front.faults.append("failed")
    error = remote.final(audio("sample"), language="English").error
    assert (error.code, error.data) == ("engine_rejected", {"status": 500})


def test_neither_audio_nor_token_follows_a_redirect(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_front()
    front.token = "secret of the server"
    monkeypatch.setenv("QWEN3_ASR_MLX_ENGINE_TOKEN", front.token)
    remote = connect(front)
    for status in (302, 307):
        front.location = f"{other.url}/v1/chat/completions"
        front.faults.append(status)
        assert remote.final(audio("sample")).error.code == "engine_incompatible"
    other.stop()
    assert (other.asked, other.headers) == ([], [])


def test_an_answer_without_end_is_not_read(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = connect(front)
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "MAX_ANSWER_BYTES", 64)
        assert remote.final(audio("sample")).error.code == "engine_incompatible"
    assert_well(remote, audio)


@pytest.mark.parametrize(
    ("fault", "retry_after", "pause"),
    [
        (429, "7", 7),
        (503, "86400", 60),
        (429, "0", 0.01),
        (429, "-5", 0.01),
        (503, "Mon, 30 Nov 2026 22:00:00 GMT", 0.01),
        (503, None, 0.01),
        (502, None, 0.01),
        ("reset", None, 0.01),
    ],
)
def test_a_server_that_fails_or_asks_for_time_gets_it(
    front: Front, connect: Connect, audio: Audio, fault: object, retry_after: str | None, pause: float
) -> None:
    remote = connect(front)
    servers = remote.engine._connection._pool
    now, [member] = [servers._clock()], servers._members
    servers._clock = lambda: now[0]
    front.faults.append(fault)
    front.retry_after = retry_after
    remote.start(1, audio("sample"))
    until(lambda: member.rests_until and member.trouble is None)
    assert member.rests_until == now[0] + pause
    before = len(front.asked)
    remote.start(2, audio("sample"))
    assert (member.trouble, len(front.asked)) == (None, before)
    now[0] += pause
    remote.engine._connection._call(lambda: remote.engine._connection._loop.create_task(servers._set(member)))
    assert {remote.next().job_id, remote.next().job_id} == {1, 2}


def test_audio_that_costs_three_answers_is_given_up(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front)
    before = len(front.asked)
    front.faults.extend(["reset"] * 3)
    error = remote.final(audio("sample")).error
    assert (error.code, error.retryable, len(front.asked) - before) == ("engine_unreachable", True, 3)
    assert_well(remote, audio)


def test_a_server_that_fails_and_is_not_well_is_waited_for(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front)
    front.is_well = False
    front.faults.append(500)
    remote.start(1, audio("sample"))
    [member] = remote.engine._connection._pool._members
    until(lambda: member.trouble and not member.outstanding)  # its health was asked for, because of the answer
    front.is_well = True
    assert remote.next().transcript.text == TEXT


def test_a_server_that_answers_too_slowly_is_asked_again(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = connect(front)
    assert remote.final(audio("sample")).transcript.text == TEXT  # a real server compiles its first answer
    monkeypatch.setattr(server, "_patience", lambda _: 0.2)
    front.faults.append(HOLD)
    remote.start(2, audio("sample"))
    assert front.given_up.acquire(timeout=60)
    monkeypatch.undo()
    outcome = remote.next()
    assert outcome.job_id == 2


def test_an_answer_that_comes_byte_by_byte_is_waited_for_no_longer_than_any(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = connect(front)
    assert remote.final(audio("sample")).transcript.text == TEXT  # a real server compiles its first answer
    monkeypatch.setattr(exchange, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(exchange, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(server, "_patience", lambda _: 0.5)
    front.faults.append("drip")
    remote.start(2, audio("sample"))
    assert front.given_up.acquire(timeout=60)
    monkeypatch.undo()
    assert remote.next().transcript.text == TEXT


def test_nothing_is_lost_where_the_server_ends_and_starts_again(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front)
    front.faults.extend([HOLD] * 4)
    for id in range(4):
        remote.start(id, audio("sample"))
    for _ in range(4):
        assert front.held.acquire(timeout=60)
    [member] = remote.engine._connection._pool._members
    front.stop()
    until(lambda: not member.outstanding)
    assert member.rests == 1  # what fails at once is one failure
    remote.start(4, audio("sample"))
    front.start()
    outcomes = [remote.next() for _ in range(5)]
    assert {each.job_id for each in outcomes} == {0, 1, 2, 3, 4}
    assert {each.transcript.text for each in outcomes} == {TEXT}
    assert member.rests == 0


def test_a_server_that_stays_away_costs_an_error_that_may_be_tried_again(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.1)
    remote = connect(front)
    front.stop()
    error = remote.final(audio("sample")).error
    assert (error.code, error.retryable) == ("engine_unreachable", True)
    front.start()
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 60.0)
    assert_well(remote, audio)


def test_a_load_without_a_server_fails_and_the_next_one_tries_again(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.1)
    front.stop()
    remote = connect(front, loads=False)
    failed = remote.load()
    assert isinstance(failed, LoadFailed)
    assert (failed.error.code, failed.error.retryable) == ("engine_unreachable", True)
    front.start()
    while isinstance(outcome := remote.load(), LoadFailed):
        assert outcome.error.code == "engine_unreachable"
    assert_well(remote, audio)


def test_a_load_waits_for_a_server_that_starts(front: Front, connect: Connect, audio: Audio) -> None:
    front.is_well = False
    remote = connect(front, loads=False)
    remote.engine.send(Load())
    until(lambda: hasattr(remote.engine._connection, "_pool"))
    front.is_well = True
    assert isinstance(remote.next(), Loaded)


@pytest.mark.parametrize(
    ("models", "wanted", "names"),
    [
        ([{"id": "Qwen/Qwen3-0.6B"}], "demo", "Qwen/Qwen3-0.6B"),
        ([{"id": "a"}, {"id": "b"}], "served", "a, b"),
        ([], "served", "none"),
    ],
)
def test_a_wrong_model_is_named_beside_those_that_are_there(
    front: Front, connect: Connect, models: list, wanted: str, names: str
) -> None:
    front.models = {"data": models}
    failed = connect(front, loads=False, model=wanted).load()
    assert failed.error.code == "engine_incompatible"
    assert f"the server has {names}: name one with --model" in failed.error.message


@pytest.mark.parametrize(
    ("models", "token", "fault", "code"),
    [
        ({"data": [{"id": "other"}]}, None, 404, "engine_incompatible"),
        (None, "a new one", None, "engine_rejected"),
    ],
)
def test_a_server_that_has_another_model_or_token_since_gets_nothing(
    front: Front, connect: Connect, audio: Audio, models: dict | None, token: str | None, fault: object, code: str
) -> None:
    remote = connect(front)
    front.models, front.token = models, token
    front.faults.append(fault)
    assert remote.final(audio("sample")).error.code == code
    [member] = remote.engine._connection._pool._members
    until(lambda: member.error)
    assert (member.error.code, member.trouble) == (code, member.error.message)
    front.models = front.token = None
    front.faults.clear()
    assert_well(remote, audio)


@needs_recording
@pytest.mark.parametrize("versions", [("0.32.0", "0.1"), (None, None)])
def test_a_server_that_comes_back_in_another_version_is_probed_again(
    front: Front, connect: Connect, audio: Audio, versions: tuple[str | None, str | None]
) -> None:
    def answers(version: str | None, forces: str | None) -> Answers:
        others = recorded(forces=forces)
        reply = Reply(404, b"") if version is None else Reply(200, b'{"version":"%s"}' % version.encode())
        return lambda *asked: reply if asked[1] == "/version" else others(*asked)

    newer, older = versions
    front.answers = answers(newer, "transcriptions")
    remote = connect(front)
    assert remote.final(audio("sample"), language="English").transcript.text == TEXT
    front.answers = answers(older, None)
    front.faults.append("reset")
    assert_well(remote, audio)
    assert remote.final(audio("sample"), language="English").error.code == "unsupported_by_engine"


@pytest.mark.parametrize("fault", [400, "strange"])
def test_a_model_that_is_no_recogniser_is_refused(front: Front, connect: Connect, fault: object) -> None:
    front.faults.append(fault)
    assert connect(front, loads=False).load().error.code == "engine_incompatible"


def test_a_server_that_comes_back_with_another_model_gets_nothing(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.5)
    remote = connect(front)
    front.models = {"data": [{"id": "other"}]}
    front.faults.append("reset")
    assert remote.final(audio("sample")).error.code == "engine_unreachable"
    front.models = None
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 60.0)
    assert_well(remote, audio)


def test_a_token_goes_to_the_server_from_the_environment_or_a_file(
    front: Front, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.token = "secret of the server"
    failed = connect(front, loads=False).load()
    assert (failed.error.code, failed.error.data) == ("engine_rejected", {"status": 401})
    assert "--engine-token-file" in failed.error.message
    monkeypatch.setenv("QWEN3_ASR_MLX_ENGINE_TOKEN", front.token)
    connect(front)
    assert "QWEN3_ASR_MLX_ENGINE_TOKEN" not in os.environ  # no child of the process gets it
    file = tmp_path / "token"
    remote = connect(front, loads=False, engine_token_file=file)
    assert remote.load().error.code == "engine_rejected"
    file.write_text("another\n")
    assert remote.load().error.code == "engine_rejected"
    file.write_text(front.token + "\n")
    assert isinstance(remote.load(), Loaded)


class Two:
    """Two servers."""

    def __init__(self) -> None:
        self.fronts = new_front(), new_front()

    def asked(self) -> list[int]:
        return [len(front.asked) for front in self.fronts]

    def stop(self) -> None:
        for front in self.fronts:
            front.release.set()
            front.stop()


@pytest.fixture
def two() -> Two:
    two = Two()
    yield two
    two.stop()


def test_the_server_with_the_least_to_do_is_asked(two: Two, connect: Connect, audio: Audio) -> None:
    remote = connect(*two.fronts)
    before = two.asked()
    for front in two.fronts:
        front.faults.extend([HOLD] * 3)
    for id in range(4):
        remote.start(id, audio("sample"))
    for front in two.fronts:
        for _ in range(2):
            assert front.held.acquire(timeout=60)
    two.fronts[1].release.set()
    assert {remote.next().job_id for _ in range(2)} < {0, 1, 2, 3}
    two.fronts[1].faults.clear()
    assert remote.final(audio("sample"), id=5).job_id == 5  # the other one has two to do
    assert [now - then for now, then in zip(two.asked(), before, strict=True)] == [2, 3]


def test_they_take_turns_where_they_have_as_much_to_do(two: Two, connect: Connect, audio: Audio) -> None:
    remote = connect(*two.fronts)
    before = two.asked()
    for id in range(4):
        remote.final(audio("sample"), id=id)
    assert [now - then for now, then in zip(two.asked(), before, strict=True)] == [2, 2]


@needs_recording
def test_a_language_goes_to_the_server_that_can_be_made_to_write_it(two: Two, connect: Connect, audio: Audio) -> None:
    two.fronts[1].answers = recorded(forces=None)
    remote = connect(*two.fronts, loads=False)
    assert remote.load().engine.forced_language is None
    before = two.asked()
    for id in range(3):
        assert remote.final(audio("sample"), id=id, language="English").transcript.text == TEXT
    assert [now - then for now, then in zip(two.asked(), before, strict=True)] == [3, 0]
    two.fronts[0].stop()
    assert_well(remote, audio)  # without a language, the other one


def test_a_partial_is_asked_for_once(two: Two, connect: Connect, audio: Audio) -> None:
    remote = connect(*two.fronts)
    before = sum(two.asked())
    for front in two.fronts:
        front.faults.append("reset")
    remote.append(1, audio("sample"))
    remote.engine.send(Partial(5, 1))
    assert (remote.next().error.code, sum(two.asked()) - before) == ("engine_unreachable", 1)


def test_the_audio_of_a_server_that_ends_goes_to_the_other(two: Two, connect: Connect, audio: Audio) -> None:
    remote = connect(*two.fronts)
    first, second = two.fronts
    first.faults.extend([HOLD] * 2)
    for id in range(4):
        remote.start(id, audio("sample"))
    for _ in range(2):
        assert first.held.acquire(timeout=60)
    first.stop()
    assert {remote.next().transcript.text for _ in range(4)} == {TEXT}
    before = len(second.asked)
    for id in range(4, 7):
        remote.final(audio("sample"), id=id)
    assert len(second.asked) - before == 3
    first.start()
    before = len(first.asked)
    while len(first.asked) == before:  # it is in the set again once it was looked at
        assert_well(remote, audio)


def test_one_of_two_is_enough_for_a_load(two: Two, connect: Connect, audio: Audio) -> None:
    two.fronts[0].stop()
    assert_well(connect(*two.fronts), audio)


def test_a_server_that_does_not_answer_a_probe_holds_up_no_other(
    two: Two, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 2.0)
    two.fronts[1].faults.append(HOLD)
    assert_well(connect(*two.fronts), audio)


@needs_recording
def test_servers_with_several_models_are_refused(two: Two, connect: Connect) -> None:
    two.fronts[1].models = {"data": [{"id": "other"}]}
    error = connect(*two.fronts, loads=False).load().error
    assert (error.code, error.data) == ("engine_incompatible", {"models": "demo, other"})


def test_a_server_that_answers_later_has_to_have_the_model_of_the_others(
    two: Two, connect: Connect, audio: Audio
) -> None:
    second = two.fronts[1]
    second.is_well = False
    second.models = {"data": [{"id": "other"}]}
    remote = connect(*two.fronts)
    second.is_well = True
    member = remote.engine._connection._pool._members[1]
    until(lambda: member.error)
    assert (member.error.code, member.server.facts) == ("engine_incompatible", None)
    assert_well(remote, audio)


def test_a_server_that_is_not_well_leaves_although_it_answers(two: Two, connect: Connect, audio: Audio) -> None:
    remote = connect(*two.fronts)
    first, second = two.fronts
    first.is_well = False
    first.faults.append(HOLD)
    remote.start(1, audio("sample"))
    assert first.held.acquire(timeout=60)  # it has something to do, so it is looked after
    member = remote.engine._connection._pool._members[0]
    until(lambda: member.trouble)
    before = len(second.asked)
    for id in range(2, 5):
        remote.final(audio("sample"), id=id)
    assert len(second.asked) - before == 3
    first.release.set()
    assert remote.next().job_id == 1  # what it had is not taken from it


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate for the test")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@needs_recording
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_certificate_of_a_server_is_verified(  # httpcore2 leaves a socket to the collector if a handshake is ended
    front: Front, connect: Connect, audio: Audio, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.1)
    front.encrypt(certificate)
    remote = connect(front, loads=False)
    until(lambda: "its certificate is not trusted" in remote.load().error.message)
    assert remote.load().error.code == "engine_unreachable"
    assert front.asked == []
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 60.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    trusting = connect(front)
    assert_well(trusting, audio)
    for each in (remote, trusting):
        each.engine.close()
    until(lambda: "engine" not in {thread.name for thread in threading.enumerate()})
    gc.collect()  # here, where the warning is ignored


@needs_recording
def test_certificates_that_cannot_be_read_fail_the_load(
    front: Front, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "junk.pem"))
    assert connect(front, loads=False).load().error.code == "engine_unreachable"


def test_a_proxy_that_refuses_has_sent_nothing(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", front.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def get() -> None:
        connections = exchange.Exchange(None)
        try:
            await connections.get("https://192.0.2.1/health", 10.0)
        finally:
            await connections.close()

    with pytest.raises(exchange.NoAnswer, match="the proxy does not let it through") as caught:
        asyncio.run(get())
    assert not caught.value.was_sent
