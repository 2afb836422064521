"""Words get times, beside everything else that the engine does."""

import gc
import queue
import shutil
import threading
from collections.abc import Iterator
from functools import partial as partial_of
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from reference.random_checkpoint import write_random_checkpoint
from support.engine_requests import align, partial, run, send, transcribe
from support.fake_hub import WAIT, FakeHub
from support.loop_engine import LoopEngine

from qwen3_asr_mlx_runtime.checkpoint import resolve
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_ALIGNER_FOLDER
from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner, loaded_bytes
from qwen3_asr_mlx_runtime.engine import align as align_module
from qwen3_asr_mlx_runtime.engine import aligner_files
from qwen3_asr_mlx_runtime.engine.align import FILES_SECONDS, KEEP_SECONDS, Alignments
from qwen3_asr_mlx_runtime.engine.aligner_files import AlignerFiles
from qwen3_asr_mlx_runtime.engine.job_memory import JobMemory
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Aligned,
    Append,
    Cancel,
    Failed,
    Finished,
    Forget,
    Load,
    LoadAligner,
)
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import EngineLost
from qwen3_asr_mlx_runtime.model.aligner import Aligner, ForcedAligner
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.model.word_times import official, viterbi
from qwen3_asr_mlx_runtime.settings import Settings

TEXT = "Seven, three one!"
SPANS = [(0, 7), (7, 13), (13, 17)]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("aligner")
    return write_random_checkpoint(folder, size="tiny-aligner", tokenizer=demo_checkpoint)


@pytest.fixture(scope="module")
def aligner(folder) -> Aligner:
    return Aligner(load_aligner(folder), Tokenizer.from_folder(folder))


@pytest.fixture
def schedule(recognizer, folder) -> Iterator[EngineScheduler]:
    schedule = recognizer.schedule(Settings(model="demo", aligner=str(folder)))
    yield schedule
    schedule._alignments.drop()


def loaded(schedule: EngineScheduler) -> EngineScheduler:
    send(schedule, align(99, noise(1), "one"))
    assert isinstance(run(schedule)[0], Aligned)
    return schedule


def codes(outcomes: list) -> dict[int, str]:
    return {each.job_id: each.error.code if isinstance(each, Failed) else type(each).__name__ for each in outcomes}


def aligned(schedule: EngineScheduler, *requests) -> list[Aligned]:
    for request in requests:
        send(schedule, request)
    outcomes = run(schedule)
    assert {*map(type, outcomes)} == {Aligned}, outcomes
    return sorted(outcomes, key=lambda outcome: outcome.job_id)


@pytest.mark.parametrize(("decoder", "times"), [("viterbi", viterbi), ("official", official)])
def test_words_have_the_times_of_the_decoder_and_their_places_in_the_text(schedule, aligner, folder, decoder, times):
    samples = noise(3.25)
    [found] = aligned(schedule, align(1, samples, TEXT, decoder=decoder))
    [scores] = aligner.logits([log_mel(samples)], [["Seven", "three", "one"]])
    expected = times(scores, 3_250) if decoder == "viterbi" else times(scores)
    assert [(word.start_ms, word.end_ms) for word in found.words] == [(each.start_ms, each.end_ms) for each in expected]
    assert [word.time_confidence for word in found.words] == [round(each.time_confidence, 4) for each in expected]
    assert [(word.char_start, word.char_end) for word in found.words] == SPANS
    assert (found.model, found.warnings) == (str(folder), [])
    assert found.seconds > 0


def test_all_samples_of_the_utterance_count(schedule):
    samples = noise(2)
    [whole] = aligned(schedule, align(1, samples, TEXT))
    schedule.append(Append(7, samples[:9_000]))
    schedule.append(Append(7, samples[9_000:]))
    [chunks] = aligned(schedule, [Align(2, 7, TEXT)])
    assert chunks.words == whole.words
    assert schedule.appended == []


@pytest.mark.parametrize("text", ["", " …♪ "])
def test_a_text_without_units_has_no_words_and_needs_no_aligner(recognizer, text):
    schedule = recognizer.schedule(Settings(model="demo"))
    [found] = aligned(schedule, align(1, noise(1), text, language="Klingon"))
    assert (found.words, found.model) == ([], "demo")


def passes(monkeypatch) -> list[int]:
    """The segments of each pass."""
    sizes, logits = [], Aligner.logits
    monkeypatch.setattr(
        Aligner, "logits", lambda one, audio, units: sizes.append(len(audio)) or logits(one, audio, units)
    )
    return sizes


def test_segments_that_share_a_pass_get_the_words_of_each_alone(schedule, monkeypatch):
    audio = [noise(seconds, seed) for seed, seconds in enumerate((2, 5.3, 0.4, 9))]
    alone = [aligned(schedule, align(number, samples, TEXT))[0] for number, samples in enumerate(audio)]
    monkeypatch.setattr(type(schedule._alignments._loaded.aligner.model), "packs", True)
    sizes = passes(monkeypatch)
    together = aligned(schedule, *(align(number, samples, TEXT) for number, samples in enumerate(audio)))
    assert sizes == [4]
    for one, other in zip(alone, together, strict=True):
        assert [(word.start_ms, word.end_ms) for word in one.words] == [(w.start_ms, w.end_ms) for w in other.words]


def test_a_shared_pass_is_bounded_in_seconds_and_in_number(schedule, monkeypatch):
    loaded(schedule)
    monkeypatch.setattr(type(schedule._alignments._loaded.aligner.model), "packs", True)
    sizes = passes(monkeypatch)
    aligned(schedule, *(align(number, noise(12), TEXT) for number in range(3)))
    assert sizes == [2, 1]
    aligned(schedule, *(align(number, noise(0.5), TEXT) for number in range(10)))
    assert sizes == [2, 1, 8, 2]


def test_on_a_cpu_a_pass_has_one_segment(schedule, monkeypatch):
    if mx.default_device() != mx.cpu:
        pytest.skip("a GPU packs them")
    sizes = passes(monkeypatch)
    aligned(schedule, *(align(number, noise(1), TEXT) for number in range(3)))
    assert sizes == [1, 1, 1]


def test_one_that_fails_in_a_shared_pass_fails_alone(schedule, monkeypatch):
    loaded(schedule)
    monkeypatch.setattr(type(schedule._alignments._loaded.aligner.model), "packs", True)
    logits = Aligner.logits

    def faulty(one, audio, units):
        if ["bad"] in units:
            raise ValueError("planted")
        return logits(one, audio, units)

    monkeypatch.setattr(Aligner, "logits", faulty)
    for number, text in enumerate(("one", "bad", "two")):
        send(schedule, align(number, noise(1), text))
    assert codes(run(schedule)) == {0: "Aligned", 1: "decode_failed", 2: "Aligned"}


def test_the_aligner_can_be_loaded_before_an_align_needs_it(schedule, recognizer, monkeypatch):
    send(schedule, [LoadAligner()])
    assert schedule.is_busy
    assert run(schedule) == []
    assert recognizer._governor.aligner_bytes
    monkeypatch.setattr(align_module, "aligner_steps", None)  # it is not loaded again
    send(schedule, [LoadAligner()])
    assert not schedule.is_busy
    aligned(schedule, align(1, noise(1), TEXT))


def test_a_load_before_an_align_fails_in_silence_and_the_next_align_says_why(recognizer):
    schedule = recognizer.schedule(Settings(model="demo", aligner="/nowhere"))
    send(schedule, [LoadAligner()])
    assert run(schedule) == []
    send(schedule, align(1, noise(1), TEXT))
    assert codes(run(schedule)) == {1: "model_not_found"}


def test_a_load_that_was_asked_for_survives_the_cancel_of_an_align(schedule, recognizer):
    send(schedule, [LoadAligner()])
    send(schedule, align(1, noise(1), TEXT))
    while schedule._alignments._loading is None or not recognizer._governor.aligner_bytes:
        schedule.step()
    schedule.cancel(1)
    assert run(schedule) == []
    assert schedule._alignments._loaded


@pytest.mark.parametrize("is_loaded", [True, False])
def test_an_align_that_waits_can_be_cancelled(schedule, is_loaded):
    if is_loaded:
        loaded(schedule)
    send(schedule, align(1, noise(1), TEXT))
    send(schedule, align(2, noise(1), TEXT))
    for _ in range(1 if is_loaded else 30):
        assert schedule.step() == []
    cancelled = schedule.cancel(1)
    assert (cancelled.job_id, cancelled.error.code) == (1, "cancelled")
    assert schedule.cancel(1) is None
    assert codes(run(schedule)) == {2: "Aligned"}


def test_the_load_that_a_cancelled_align_began_is_given_up(schedule, recognizer):
    send(schedule, align(1, noise(1), TEXT))
    while schedule._alignments._loading is None or not recognizer._governor.aligner_bytes:
        schedule.step()
    schedule.cancel(1)
    assert not schedule.is_busy
    assert (schedule._alignments._loading, recognizer._governor.aligner_bytes) == (None, 0)


def test_what_is_forgotten_is_gone_and_a_partial_of_what_is_aligned_ends(schedule):
    schedule.append(Append(7, noise(1)))
    assert schedule.forget(7) is None
    assert schedule.appended == []
    send(schedule, partial(1, 8, noise(1)))
    schedule.align(Align(2, 8, TEXT))
    assert codes(run(schedule)) == {1: "cancelled", 2: "Aligned"}


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (Settings(model="demo"), "model_not_found"),
        (
            Settings(model="demo", aligner="owner/name", local_files_only=True, cache_dir=Path("/nowhere")),
            "model_not_found",
        ),
        (Settings(model="demo", aligner="a/b/c"), "model_not_found"),
        (Settings(model="demo", aligner=str(resolve.DEMO_FOLDER)), "model_unsupported"),
    ],
    ids=["embedded", "offline", "name", "a recogniser"],
)
def test_an_aligner_that_is_not_there_fails_each_align_and_nothing_else(recognizer, settings, code, monkeypatch):
    monkeypatch.setattr(resolve, "DEMO_ALIGNER_FOLDER", Path("/nowhere"))
    schedule = recognizer.schedule(settings)
    for number in (1, 2):
        send(schedule, align(number, noise(1), TEXT))
    send(schedule, transcribe(3, Utterance(noise(1))))
    assert codes(run(schedule)) == {1: code, 2: code, 3: "Finished"}


def test_a_load_that_failed_is_tried_again_by_the_next_align(recognizer, folder, tmp_path):
    here = Path(shutil.copytree(folder, tmp_path / "aligner"))
    whole = (here / "model.safetensors").read_bytes()
    (here / "model.safetensors").write_bytes(whole[:-1])
    schedule = recognizer.schedule(Settings(aligner=str(here)))
    send(schedule, align(1, noise(1), TEXT))
    assert codes(run(schedule)) == {1: "model_corrupt"}
    (here / "model.safetensors").write_bytes(whole)
    assert len(aligned(schedule, align(2, noise(1), TEXT))[0].words) == 3


def test_a_load_that_fails_on_its_way_leaves_nothing(schedule, recognizer, monkeypatch):
    def broken(*_, **__):
        yield
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(align_module, "aligner_steps", broken)
        send(schedule, align(1, noise(1), TEXT))
        assert codes(run(schedule)) == {1: "model_unsupported"}
    assert recognizer._governor.aligner_bytes == 0
    aligned(schedule, align(2, noise(1), TEXT))


def test_weights_that_change_between_check_and_load_are_not_used(schedule, folder, tmp_path, recognizer):
    here = Path(shutil.copytree(folder, tmp_path / "aligner"))
    schedule = recognizer.schedule(Settings(aligner=str(here)))
    send(schedule, align(1, noise(1), TEXT))
    while schedule._alignments._loading is None:
        schedule.step()
    (here / "model.safetensors").touch()
    assert codes(run(schedule)) == {1: "model_changed"}


@pytest.mark.parametrize("language", ["English", "arabic", "Chinese,English", None])
def test_the_languages_of_the_checkpoint_are_aligned(schedule, language):
    assert len(aligned(schedule, align(1, noise(1), TEXT, language=language))[0].words) == 3


def test_another_language_is_refused_before_and_after_the_aligner_is_loaded(schedule):
    for number, language in enumerate(["German", "English,German", "English"]):
        send(schedule, align(number, noise(1), TEXT, language=language))
    expected = {0: "language_unsupported", 1: "language_unsupported", 2: "Aligned"}
    assert codes(run(schedule)) == expected
    send(schedule, align(0, noise(1), TEXT, language="German"))
    [failed] = run(schedule)
    assert (failed.error.code, failed.error.data) == ("language_unsupported", {"language": "German"})


def test_no_weights_are_read_for_a_language_that_the_aligner_lacks(schedule, monkeypatch):
    monkeypatch.setattr(align_module, "aligner_steps", lambda *_, **__: pytest.fail("read"))
    send(schedule, align(1, noise(1), TEXT, language="German"))
    assert codes(run(schedule)) == {1: "language_unsupported"}
    assert schedule._alignments._loading is None


@pytest.mark.parametrize(("seconds", "units", "room"), [(0.2, 4, 3), (0.01, 1, 0), (20, 200, 143)])
def test_more_units_than_the_audio_has_room_for_are_refused(schedule, seconds, units, room):
    send(schedule, align(1, noise(seconds), "one " * units))
    [failed] = run(schedule)
    assert (failed.error.code, failed.error.data) == ("too_many_units", {"units": units, "room": room})
    assert not failed.error.retryable
    if room:
        assert len(aligned(schedule, align(2, noise(seconds), "one " * room))[0].words) == room


def test_more_units_than_the_aligner_has_positions_are_refused(schedule):
    send(schedule, align(1, noise(1), "one " * 40_000, decoder="official"))
    assert codes(run(schedule)) == {1: "too_many_units"}


def test_memory_that_the_aligner_has_not_is_refused_and_found_later(schedule, recognizer, folder, monkeypatch):
    governor = recognizer._governor
    gc.collect()
    held, size = mx.get_active_memory(), loaded_bytes(folder, None, None, ForcedAligner)
    for limit in (held, held + size + 100_000):  # none, and too little for the pass
        with monkeypatch.context() as patch:
            patch.setattr(governor, "limit_bytes", limit)
            send(schedule, align(1, noise(2), TEXT))
            [failed] = run(schedule)
            assert (failed.error.code, failed.error.retryable) == ("out_of_memory", True)
            assert (schedule._alignments._loaded, governor.aligner_bytes) == (None, 0)
    aligned(schedule, align(1, noise(2), TEXT))
    assert governor.aligner_bytes > 0


def test_a_pass_that_does_not_fit_is_refused(schedule, recognizer, monkeypatch):
    loaded(schedule)
    monkeypatch.setattr(recognizer._governor, "limit_bytes", mx.get_active_memory() + 1_000_000)
    send(schedule, align(1, noise(10), TEXT))
    assert codes(run(schedule)) == {1: "out_of_memory"}
    assert schedule._alignments._loaded is not None


@pytest.mark.cpu
@pytest.mark.parametrize(("seconds", "units"), [(1, 3), (30, 100), (11, 140)])
def test_the_estimate_of_a_pass_is_above_what_it_takes(aligner, seconds, units):
    samples, letters = noise(seconds), ["seven"] * units
    memory = JobMemory(aligner.model.config, 4)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    aligner.logits([log_mel(samples)], [letters])
    taken = mx.get_peak_memory() - before
    estimate = memory.alignment(len(samples), aligner.positions(letters) + 13 * seconds, units)
    assert taken <= estimate <= 4 * taken


def test_a_job_of_the_recogniser_that_needs_the_memory_evicts_the_aligner(schedule, recognizer, monkeypatch):
    loaded(schedule)
    governor = recognizer._governor
    size, held = governor.aligner_bytes, mx.get_active_memory()
    monkeypatch.setattr(governor, "limit_bytes", held + governor.estimate(SAMPLE_RATE, 200) - size // 2)
    governor.admit(SAMPLE_RATE, 200)
    assert (schedule._alignments._loaded, governor.aligner_bytes) == (None, 0)
    assert mx.get_active_memory() <= held - size + 1_000
    monkeypatch.undo()
    assert len(aligned(schedule, align(1, noise(1), TEXT))[0].words) == 3


def test_a_load_under_way_is_given_up_for_the_recogniser_and_begun_again(schedule, recognizer, monkeypatch):
    send(schedule, align(1, noise(1), TEXT))
    while schedule._alignments._loading is None or not recognizer._governor.aligner_bytes:
        schedule.step()
    recognizer._governor.evict_aligner()
    assert recognizer._governor.aligner_bytes == 0
    assert codes(run(schedule)) == {1: "Aligned"}


def test_rows_leave_room_for_a_loaded_aligner(recognizer, monkeypatch):
    governor = recognizer._governor
    row = governor._row_bytes(512)
    limit = governor._weight_bytes + governor.estimate(30 * SAMPLE_RATE, 512) + 8 * row
    monkeypatch.setattr(governor, "limit_bytes", limit)
    rows, streaming_bytes = governor.rows(512), governor.streaming_bytes
    monkeypatch.setattr(governor, "aligner_bytes", 3 * row)
    assert (rows, governor.rows(512)) == (9, 6)
    assert governor.streaming_bytes == streaming_bytes - 3 * row // 8


def test_an_idle_engine_frees_the_aligner_after_a_while(recognizer, folder):
    now = [0.0]
    schedule = recognizer.schedule()
    schedule._alignments = Alignments(Settings(aligner=str(folder)), recognizer._governor, lambda: now[0])
    assert not schedule.idle()
    loaded(schedule)
    now[0] = KEEP_SECONDS - 1
    assert schedule.idle()
    now[0] = KEEP_SECONDS
    assert not schedule.idle()
    assert recognizer._governor.aligner_bytes == 0


def test_weights_that_give_no_numbers_are_read_again(schedule):
    loaded(schedule)
    held = mx.get_active_memory()
    schedule._alignments._loaded.aligner.model.lm_head.weight[3] = mx.nan
    send(schedule, align(1, noise(1), TEXT))
    assert codes(run(schedule)) == {1: "model_corrupt"}
    assert len(aligned(schedule, align(2, noise(1), TEXT))[0].words) == 3
    assert mx.get_active_memory() < held + 100_000


def test_a_gpu_that_ignores_the_process_is_reported_as_that(schedule, monkeypatch):
    def ignored(*_):
        raise EngineLost("planted")

    loaded(schedule)
    monkeypatch.setattr(Aligner, "logits", ignored)
    send(schedule, align(1, noise(1), TEXT))
    [failed] = run(schedule)
    assert isinstance(failed.error, EngineLost)


# Order.


def test_finals_come_first_then_words_then_partials_then_files(schedule):
    loaded(schedule)
    send(schedule, transcribe(1, Utterance(noise(8))))
    send(schedule, partial(2, 7, noise(1)))
    send(schedule, align(3, noise(1), TEXT))
    send(schedule, transcribe(4, Utterance(noise(1)), interactive=True))
    assert [outcome.job_id for outcome in run(schedule)] == [4, 3, 2, 1]


def test_a_final_waits_for_one_pass_at_most(schedule, monkeypatch):
    loaded(schedule)
    sizes = passes(monkeypatch)
    for number in range(5):
        send(schedule, align(number, noise(1), TEXT))
    while not sizes:
        schedule.step()
    send(schedule, transcribe(9, Utterance(noise(1)), interactive=True))
    done = []
    while 9 not in done:
        done += [outcome.job_id for outcome in schedule.step()]
    assert sizes == [1]
    assert len(run(schedule)) == 4


def test_a_final_waits_for_one_layer_at_most(schedule, monkeypatch):
    send(schedule, align(1, noise(1), TEXT))
    while schedule._alignments._loading is None:
        schedule.step()
    monkeypatch.setattr(Alignments, "step", lambda _: pytest.fail("before the final"))
    send(schedule, transcribe(9, Utterance(noise(1)), interactive=True))
    done = []
    while not done:
        done = schedule.step()
    monkeypatch.undo()
    assert isinstance(done[0], Finished)
    assert codes(run(schedule)) == {1: "Aligned"}


def test_files_get_one_step_in_five_beside_words_without_end(schedule):
    loaded(schedule)
    send(schedule, transcribe(100, Utterance(noise(1))))
    for number in range(80):
        send(schedule, align(number, noise(0.3), "one"))
    done = [outcome.job_id for outcome in run(schedule)]
    assert done.index(100) < 80


# Files that have to come first.


@pytest.fixture
def hub(folder, monkeypatch) -> Iterator[FakeHub]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    hub = FakeHub(folder)
    monkeypatch.setattr(aligner_files, "Hub", partial_of(Hub, endpoint=hub.endpoint))
    yield hub
    hub.close()


def fetching(recognizer, tmp_path) -> EngineScheduler:
    return recognizer.schedule(Settings(aligner="owner/name", cache_dir=tmp_path, stall_seconds=WAIT))


def test_until_the_aligner_is_downloaded_an_align_fails_at_once_and_finals_go_on(recognizer, tmp_path, hub):
    hub.hang_after = 0
    schedule = fetching(recognizer, tmp_path)
    send(schedule, align(1, noise(1), TEXT))
    assert codes(run(schedule)) == {1: "aligner_downloading"}
    assert hub.hanging.wait(WAIT)
    send(schedule, align(2, noise(1), TEXT))
    send(schedule, transcribe(3, Utterance(noise(1)), interactive=True))
    outcomes = run(schedule)
    assert codes(outcomes) == {2: "aligner_downloading", 3: "Finished"}
    assert all(outcome.error.retryable for outcome in outcomes if isinstance(outcome, Failed))
    files = schedule._alignments._files
    hub.released.set()
    files.join(WAIT)
    assert len(aligned(schedule, align(4, noise(1), TEXT))[0].words) == 3
    assert len(hub.weight_requests) == 1


def test_an_align_that_finds_a_failed_download_reports_it_and_the_next_download_begins(
    recognizer, tmp_path, hub, monkeypatch
):
    answered, resolve = threading.Event(), aligner_files.resolve_aligner

    def resolved(name, hub, local_files_only=False):
        assert local_files_only or answered.wait(WAIT)  # the download fails once the first job has its answer
        return resolve(name, hub, local_files_only=local_files_only)

    monkeypatch.setattr(aligner_files, "resolve_aligner", resolved)
    hub.status["safetensors"] = 403
    schedule = fetching(recognizer, tmp_path)
    send(schedule, align(1, noise(1), TEXT))
    assert codes(run(schedule)) == {1: "aligner_downloading"}
    answered.set()
    schedule._alignments._files.join(WAIT)
    hub.status.clear()
    send(schedule, align(2, noise(1), TEXT))
    assert codes(run(schedule)) == {2: "download_failed"}
    schedule._alignments._files.join(WAIT)
    assert len(aligned(schedule, align(3, noise(1), TEXT))[0].words) == 3


def test_downloaded_weights_are_checked_against_their_digest(recognizer, tmp_path, hub):
    schedule = fetching(recognizer, tmp_path)
    send(schedule, align(1, noise(1), TEXT))
    run(schedule)
    schedule._alignments._files.join(WAIT)
    [blob] = [path.resolve() for path in tmp_path.rglob("model.safetensors")]
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    schedule = fetching(recognizer, tmp_path)
    send(schedule, align(2, noise(1), TEXT))
    assert codes(run(schedule)) == {2: "model_corrupt"}


def test_a_search_that_hangs_does_not_stop_a_final(recognizer, monkeypatch):
    """As on a volume that does not answer."""
    release = threading.Event()
    monkeypatch.setattr(AlignerFiles, "_find", lambda _: release.wait(WAIT) and pytest.fail("found"))
    schedule = recognizer.schedule(Settings(model="demo"))
    send(schedule, align(1, noise(1), TEXT))
    send(schedule, transcribe(2, Utterance(noise(1)), interactive=True))
    done = []
    while not done:
        done = schedule.step()
    assert codes(done) == {2: "Finished"}
    assert schedule.is_busy
    assert schedule.step() == []
    assert schedule.cancel(1).error.code == "cancelled"
    assert not schedule.is_busy
    release.set()


def test_a_search_that_hangs_fails_the_aligns_after_a_while(recognizer, monkeypatch):
    now, release = [0.0], threading.Event()
    monkeypatch.setattr(AlignerFiles, "_find", lambda _: release.wait(WAIT) and DEMO_ALIGNER_FOLDER)
    schedule = recognizer.schedule(Settings(model="demo"))
    schedule._alignments = Alignments(Settings(model="demo"), recognizer._governor, lambda: now[0])
    send(schedule, align(1, noise(1), TEXT))
    for _ in range(5):
        assert schedule.step() == []
    now[0] = FILES_SECONDS
    assert codes(run(schedule)) == {1: "engine_stalled"}
    send(schedule, [LoadAligner()])
    assert schedule.step() == []
    now[0] = 2 * FILES_SECONDS
    assert run(schedule) == []
    release.set()
    aligned(schedule, align(2, noise(1), TEXT))  # by another search
    schedule._alignments.drop()


def test_an_aligner_that_is_asked_for_is_loaded_once_it_is_downloaded(recognizer, tmp_path, hub):
    hub.hang_after = 0
    schedule = fetching(recognizer, tmp_path)
    send(schedule, [LoadAligner()])
    send(schedule, align(1, noise(1), TEXT))
    outcomes = []
    while not outcomes:
        outcomes = schedule.step()
    assert codes(outcomes) == {1: "aligner_downloading"}
    assert schedule.is_busy
    assert schedule.step() == []
    hub.released.set()
    assert run(schedule) == []
    assert schedule._alignments._loaded
    schedule._alignments.drop()


def test_the_import_of_the_segmenter_does_not_stop_other_work(schedule, monkeypatch):
    gate, threads, find = threading.Event(), [], align_module.word_units

    def slow(text, language):
        threads.append(threading.current_thread())
        if language == "Japanese":
            assert gate.wait(WAIT)
        return find(text, None)

    loaded(schedule)._alignments._languages |= {"japanese"}
    monkeypatch.setattr(align_module, "word_units", slow)
    send(schedule, align(1, noise(1), "今日", language="Japanese"))
    send(schedule, align(2, noise(1), TEXT))
    send(schedule, transcribe(3, Utterance(noise(1))))
    done = {}
    while len(done) < 2:
        done |= codes(schedule.step())
    assert done == {2: "Aligned", 3: "Finished"}
    assert schedule.is_busy
    assert schedule.step() == []
    gate.set()
    assert codes(run(schedule)) == {1: "Aligned"}
    assert len({*threads}) == 2


# In the loop.


def test_the_loop_aligns_and_an_align_before_any_load_fails(folder):
    outcomes: queue.SimpleQueue = queue.SimpleQueue()
    thread = LoopEngine(Settings(model="demo", aligner=str(folder)), outcomes.put)
    for request in align(1, noise(1), TEXT):
        thread.send(request)
    assert outcomes.get(timeout=WAIT).error.code == "engine_unavailable"
    thread.send(Load())
    for request in [*align(2, noise(1), TEXT), *transcribe(3, Utterance(noise(1)))]:
        thread.send(request)
    thread.send(Cancel(77))
    thread.send(Forget(77))
    found = {}
    while {2, 3} - found.keys():
        outcome = outcomes.get(timeout=WAIT)
        found[getattr(outcome, "job_id", 0)] = outcome
    thread.close()
    assert thread.join(WAIT)
    assert (type(found[2]), len(found[2].words)) == (Aligned, 3)
    assert isinstance(found[3], Finished)
