"""Words of a delivered final: they come once, or the error that prevents them does, however the bridge ends."""

import asyncio
from dataclasses import replace

from client.test_bridge import WAIT
from support.client_children import child, setup

from qwen3_asr_mlx_runtime.client import AsyncBridge, Bridge, BridgeLost, Event
from qwen3_asr_mlx_runtime.client.results import RealtimeBatchFinal
from qwen3_asr_mlx_runtime.protocol.streams import WordsReady

DELIVERS = """
def deliver(*jobs):
    for job in jobs:
        item = {**FINAL["items"][0], "job": job, "utterance_id": f"mic-{job}", "words": None, "words_pending": True}
        say(FINAL, items=[item])
def find_words(*jobs):
    word = {"text": "Seven", "start": 0.0, "end": 0.5, "char_start": 0, "char_end": 16, "confidence": None}
    for job in jobs:
        ready = {"type": "words_ready", "event": True, "n": 9, "job": job, "stream_id": "mic", "warnings": []}
        say(ready, utterance_id=f"mic-{job}", words=[{**word, "time_confidence": 0.9}])
greet()
"""
Seen = tuple[str, int, str | None]


def seen(event: Event | None) -> Seen:
    """Which event, of which job, and the code of its error."""
    if isinstance(event, RealtimeBatchFinal):
        return "final", event.items[0].job, None
    if isinstance(event, WordsReady):
        assert event.utterance_id == f"mic-{event.job}"
        return "words", event.job, event.error.code if event.error else None
    assert isinstance(event, BridgeLost)
    return "lost", 0, event.error.code


def some(bridge: Bridge, count: int) -> list[Seen]:
    return [seen(bridge.next_event(WAIT)) for _ in range(count)]


def test_words_come_as_an_event_with_a_type_of_its_own() -> None:
    bridge = Bridge(setup(child(DELIVERS + "deliver(1); find_words(1); read()")))
    bridge.open()
    final, words = bridge.next_event(WAIT), bridge.next_event(WAIT)
    assert isinstance(final, RealtimeBatchFinal)
    assert (final.items[0].words, final.items[0].words_pending) == (None, True)
    assert isinstance(words, WordsReady)
    assert [(word.text, word.end) for word in words.words or ()] == [("Seven", 0.5)]
    bridge.kill()
    assert [*bridge.events] == []


def test_words_that_a_lost_bridge_owes_have_its_error_once() -> None:
    bridge = Bridge(setup(child(DELIVERS + "deliver(1, 2, 3); find_words(2); read(); sys.exit(1)")))
    bridge.open()
    assert some(bridge, 4) == [("final", 1, None), ("final", 2, None), ("final", 3, None), ("words", 2, None)]
    bridge._session.connected().send({"type": "end"})
    assert some(bridge, 3) == [
        ("lost", 0, "bridge_exited"),
        ("words", 1, "bridge_exited"),
        ("words", 3, "bridge_exited"),
    ]
    bridge.open()
    assert some(bridge, 4)[3] == ("words", 2, None)
    bridge.kill()
    assert [seen(event) for event in bridge.events] == [("words", 1, "bridge_closed"), ("words", 3, "bridge_closed")]


def test_words_that_a_stopped_bridge_owes_have_an_error_too() -> None:
    bridge = Bridge(setup(child(DELIVERS + 'deliver(1); say(STOPPED, id=read()["id"])')))
    bridge.open()
    assert bridge.stop() is not None
    assert [seen(event) for event in bridge.events] == [("final", 1, None), ("words", 1, "bridge_closed")]


def test_no_audio_is_sent_again_for_the_sake_of_words() -> None:
    program = """
while True:
    m = read()
    say({"type": "seen", "event": True, "request": m["type"]})
    say(READY, id=m["id"]) if m["type"] == "start_stream" else None
    if m["type"] == "end_utterance":
        say({"type": "utterance_queued", "stream_id": "mic", "utterance_id": m["utterance_id"], "samples": 1},
            id=m["id"], queued=1, batch_size=1)
        deliver(1)
        sys.exit(1)
"""
    bridge = Bridge(replace(setup(child(DELIVERS + program)), resend=True))
    stream = bridge.start_stream("mic", auto_flush=True, words=True)
    stream.append(bytes(2))
    stream.end_utterance()
    events = []
    while not events or events[-1] != ("words", 1, "bridge_exited"):
        event = bridge.next_event(WAIT)
        events += [seen(event)] if isinstance(event, RealtimeBatchFinal | WordsReady | BridgeLost) else []
    assert events == [("final", 1, None), ("lost", 0, "bridge_exited"), ("words", 1, "bridge_exited")]
    bridge.open()
    again = bridge.next_event(WAIT)
    assert getattr(again, "message", {}).get("request") == "start_stream"
    bridge.kill()
    assert [*bridge.events] == []


ALIGNED = """
greet()
while True:
    m = read()
    if m["type"] == "start":
        say({"type": "ready", "model": str(m.get("words")), "model_dir": "", "load_seconds": 0.0, "load": "none",
             "load_profile": {}}, id=m["id"])
    else:
        aligner = {"model": "demo", "seconds": 0.0, "decoder": "viterbi"}
        language = f"{m['language']} {m['text']} {m.get('timeout_ms')}"
        say({"type": "aligned", "audio": m["audio"], "language": language, "words": [], "confidence": None,
             "aligner": aligner, "audio_seconds": 1.0, "total_seconds": None, "load_seconds": 0.0}, id=m["id"])
"""


def test_a_text_is_aligned_and_the_aligner_loaded() -> None:
    bridge = Bridge(setup(child(ALIGNED)))
    assert bridge.start(words=True).model == "True"
    aligned = bridge.align("/a.wav", "", "en", timeout_ms=7, timeout=WAIT)
    assert (aligned.audio, aligned.language, aligned.replayed) == ("/a.wav", "en  7", False)
    bridge.kill()


def test_with_asyncio_too() -> None:
    async def talk() -> None:
        bridge = AsyncBridge(setup(child(ALIGNED)))
        assert (await bridge.start(words=True)).model == "True"
        assert (await bridge.align("/a.wav", "one", "en", timeout=WAIT)).language == "en one None"
        await bridge.kill()
        bridge = AsyncBridge(setup(child(DELIVERS + "deliver(1); find_words(1); read()")))
        await bridge.open()
        assert [seen(await bridge.next_event(WAIT)) for _ in range(2)] == [("final", 1, None), ("words", 1, None)]
        await bridge.kill()

    asyncio.run(talk())
