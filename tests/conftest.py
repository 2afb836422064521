"""What every test may ask for: the repository, the recordings beside it, the embedded checkpoint."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

# Files that are marked `once` as a whole: slow, and about arithmetic, another language or another program, which no
# version of Python changes. The launcher stands here because .ci/run has it make the environment of each Python.
ONCE = {
    "e2e/test_decoder_modes",
    "e2e/test_engine_ends",
    "e2e/test_live",
    "e2e/test_long_files",
    "e2e/test_overload",
    "e2e/test_remote",
    "e2e/test_resend",
    "scripts/test_agreement",
    "scripts/test_benchmark",
    "demo/test_demo",
    "tools/test_doctor",
    "tools/test_evaluate",
    "tools/test_monitor",
    "tools/test_perftest",
    "scripts/test_install",
    "scripts/test_launcher",
    "session/test_interleavings",
    "engine/test_second_decode",
    "engine/test_streaming_utterance",
    "examples/test_node",
    "examples/test_shell",
    "examples/test_vad",
    "faults/test_nth_call",
    "reference/test_aligner",
    "reference/test_parity",
    "scripts/test_quantization_loss",
    "tools/test_report",
    "tools/test_serve",
    "tools/test_serve_realtime",
    "tools/test_transcribe",
    "tools/test_wyoming",
    "scripts/test_soak",
    "examples/test_web",
    "rows/test_model_files",
    "engine/test_align",
    "rows/test_pauses",
    "engine/test_provisional",
    "engine/test_repair",
    "rows/test_terms",
}

# How long an example takes on a busy machine says nothing about the code. Without the variable each run of a version
# tries the same examples, so what fails is its own.
settings.register_profile(
    "runs",
    deadline=None,
    derandomize=not os.environ.get("QWEN3_ASR_MLX_TEST_RANDOM"),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("runs")

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup: every child would ignore it too
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture
def no_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BLAS that is loaded into every process starts its threads there, which Node and Chromium do not bear."""
    monkeypatch.delenv("LD_PRELOAD", raising=False)


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU by name alone: everything that asks for the device gets Metal, and MLX computes on the CPU. For tests that
    are marked `cpu`. Nothing is compiled, for which the CPU needs a C++ compiler."""
    import mlx.core as mx

    mx.disable_compile()
    info = {"device_name": "Apple M1", "max_recommended_working_set_size": 12 * 2**30}
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "device_info", lambda *_: info)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "set_wired_limit", lambda _: 0)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Recordings that are no part of the repository; a test that asks for them is skipped where they are missing."""
    folder = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set QWEN3_ASR_MLX_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    return ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo"


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_once(file: Path) -> bool:
    return file.is_relative_to(TESTS) and file.relative_to(TESTS).with_suffix("").as_posix() in ONCE


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that `-m` leaves out as a whole is not imported either."""
    return True if "not once" in config.option.markexpr and is_once(collection_path) else None


def pytest_collection_finish() -> None:
    """What there is now stays to the end: Python need not look at it each time the engine has all garbage collected."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before what `-m` leaves out is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_once(item.path):
            item.add_marker(pytest.mark.once)
        linux = item.get_closest_marker("linux")
        if linux is not None and sys.platform != "linux":
            item.add_marker(pytest.mark.skip(reason=linux.args[0]))


@pytest.hookimpl(wrapper=True)  # around what makes the fixtures too: a model is prepared for the device there is
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("cpu") is None:
        return (yield)
    import mlx.core as mx

    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    try:
        return (yield)
    finally:
        mx.set_default_device(device)
        if device != mx.cpu:
            mx.enable_compile()  # which a load on the CPU turns off, for the whole process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test has to say though it passed, as a property of the name `note`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "note":
                terminalreporter.write_line(str(value))
