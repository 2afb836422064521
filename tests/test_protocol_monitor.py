"""Every promise that the monitor watches was seen broken once."""

import pytest
from protocol_monitor import ProtocolMonitor

STOPPED = b'{"type":"stopped"}\n'
CAPABILITIES = b'{"type":"capabilities"}\n'


def converse(sent: list[bytes], received: bytes) -> None:
    monitor = ProtocolMonitor()
    for line in sent:
        monitor.sent(line)
    monitor.received(received)
    monitor.finish()


@pytest.mark.parametrize(
    ("sent", "received", "broken"),
    [
        ([b'{"type":"stop"}'], b'"stopped"\n', "I1"),
        ([b'{"type":"stop"}'], '{"type":"stopped","x":"é"}\n'.encode(), "I1"),
        ([b'{"type":"stop"}'], b'{"type":"stopped","x":NaN}\n', "I1"),
        ([b'{"type":"stop"}'], b'{"type":"goodbye"}\n', "I1"),
        ([b'{"type":"stop"}'], STOPPED + b"{", "I1"),
        ([b'{"type":"hello"}', b'{"type":"hello"}'], CAPABILITIES, "I2"),
        ([b'{"type":"hello"}'], CAPABILITIES + CAPABILITIES, "I2"),
        ([], STOPPED, "I2"),
        ([b'{"type":"hello"}', b'{"type":"start"}'], b'{"type":"ready"}\n' + CAPABILITIES, "I3"),
        ([b'{"type":"hello","id":7}'], CAPABILITIES, "I3"),
        ([b'{"type":"hello","id":7}'], b'{"type":"capabilities","id":"7"}\n', "I3"),
        ([b'{"type":"hello"}'], b'{"type":"capabilities","id":7}\n', "I3"),
        (
            [b'{"type":"batch_transcribe","audio":["a","b"]}'],
            b'{"type":"batch_transcript","count":1,"failed":0,"items":[{"audio":"a"}]}\n',
            "I4",
        ),
        (
            [b'{"type":"batch_transcribe","audio":["a"]}'],
            b'{"type":"batch_transcript","count":1,"failed":0,"items":[{"audio":"a","error":{}}]}\n',
            "I4",
        ),
        ([b'{"type":"stop"}', b'{"type":"hello"}'], STOPPED + CAPABILITIES, "I7"),
    ],
)
def test_a_planted_violation_is_named(sent: list[bytes], received: bytes, broken: str) -> None:
    with pytest.raises(AssertionError, match=f"^{broken}:"):
        converse(sent, received)


def test_a_line_that_is_no_json_is_a_violation() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        converse([b'{"type":"stop"}'], b"downloading...\n")


def test_a_sound_conversation_passes() -> None:
    refused = b'{"type":"error","code":"shutting_down"}\n'
    bad = b'{"type":"error","code":"invalid_json","id":null}\n'
    converse(
        [b"{", b"\n", b'{"type":"hello"}', b'{"type":"stop"}', b'{"type":"start"}'],
        bad + CAPABILITIES + refused + STOPPED,
    )
