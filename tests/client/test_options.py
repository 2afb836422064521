"""The options that the Python client takes by name are the members of the requests."""

from inspect import signature
from typing import Unpack, get_type_hints

import pytest

from qwen3_asr_mlx_runtime.client import AsyncBridge, Bridge
from qwen3_asr_mlx_runtime.client.options import (
    BoundaryOptions,
    FileOptions,
    StreamOptions,
    TimedOptions,
    TranscribeOptions,
)
from qwen3_asr_mlx_runtime.protocol.commands import BatchTranscribe, Boundary, Flush, StartStream, Transcribe


@pytest.mark.parametrize(
    ("options", "request_type", "by_method"),
    [
        (TranscribeOptions, Transcribe, {"audio"}),
        (FileOptions, BatchTranscribe, {"audio"}),
        (TimedOptions, Flush, {"stream_id"}),
        (StreamOptions, StartStream, {"stream_id"}),
        (BoundaryOptions, Boundary, {"stream_id", "pcm16"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_options_have_the_names_and_types_of_the_members(
    options: type, request_type: type, by_method: set[str]
) -> None:
    members = get_type_hints(request_type)
    expected = {name: members[name] for name in request_type.__struct_fields__ if name not in by_method}
    assert get_type_hints(options) == expected


@pytest.mark.parametrize("bridge", [Bridge, AsyncBridge])
def test_only_a_transcribe_takes_progress(bridge: type) -> None:
    taken = {name: signature(getattr(bridge, name)).parameters for name in ("transcribe", "batch_transcribe", "align")}
    assert taken["transcribe"]["options"].annotation == Unpack[TranscribeOptions]
    assert taken["batch_transcribe"]["options"].annotation == Unpack[FileOptions]
    assert "options" not in taken["align"]
    assert "progress" not in taken["align"]
