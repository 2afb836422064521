import sys
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.limits import DEFAULT_TERM_WEIGHT, LIMITS, option_of
from qwen3_asr_mlx_runtime.settings import CommandLine, Settings, parse_command_line
from qwen3_asr_mlx_runtime.terms import Term


def parse(*argv: str, **environ: str) -> Settings:
    return parse_command_line(argv, environ).settings


def rejected(capsys: pytest.CaptureFixture, *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(argv, {})
    assert ended.value.code == 2
    written = capsys.readouterr()
    assert written.out == ""
    return written.err


def test_without_options_the_defaults_stand() -> None:
    assert parse_command_line([], {}) == CommandLine(
        Settings(), print_capabilities=False, print_schema=False, notices=()
    )
    assert Settings().model == "Qwen/Qwen3-ASR-0.6B"
    assert Settings().cache_dir is None


def test_every_option_reaches_its_setting() -> None:
    argv = (
        "--model demo --aligner owner/aligner --align-decoder official --cache-dir /c --language AR"
        " --context one --dtype float32"
        " --max-new-tokens 9"
        " --max-chunk-seconds 20 --local-files-only --parent-pid 77 --no-install"
        " --quantize mixed --force-4bit-tower"
        " --memory-limit-mb 2048 --cache-limit-mb 64 --wired-limit-mb 1024"
    )
    assert parse(*argv.split()) == Settings(
        model="demo",
        aligner="owner/aligner",
        align_decoder="official",
        cache_dir=Path("/c"),
        language="Arabic",
        context="one",
        dtype="float32",
        quantize="mixed",
        force_4bit_tower=True,
        token_budget=9,
        segment_seconds=20.0,
        local_files_only=True,
        parent_pid=77,
        memory_limit_bytes=2048 << 20,
        cache_limit_bytes=64 << 20,
        wired_limit_bytes=1024 << 20,
    )


def test_the_environment_may_set_what_memory_is_used_and_an_option_wins() -> None:
    environ = {f"QWEN3_ASR_MLX_{kind}_LIMIT_MB": "100" for kind in ("MEMORY", "CACHE", "WIRED")}
    settings = parse("--cache-limit-mb", "0", **environ)
    assert (settings.memory_limit_bytes, settings.cache_limit_bytes) == (100 << 20, 0)
    assert settings.wired_limit_bytes == 100 << 20
    assert parse(QWEN3_ASR_MLX_MEMORY_LIMIT_MB="").memory_limit_bytes is None


def test_a_limit_of_the_environment_that_is_no_number_is_named(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(QWEN3_ASR_MLX_MEMORY_LIMIT_MB="much")
    assert ended.value.code == 2
    assert "--memory-limit-mb" in capsys.readouterr().err


def test_audio_may_be_limited_to_less_than_a_segment_has_by_default() -> None:
    settings = parse("--max-audio-seconds", "1")
    assert (settings.max_audio_seconds, settings.segment_seconds) == (1.0, 30.0)


def test_a_home_nobody_has_is_left_in_a_path() -> None:
    settings = parse("--cache-dir", "~no such user/c", "--state-dir", "~no such user/s")
    assert (settings.cache_dir, settings.state_dir) == (Path("~no such user/c"), Path("~no such user/s"))


def test_the_model_may_be_the_first_argument() -> None:
    assert parse("demo").model == "demo"
    assert parse("demo", "--model", "demo").model == "demo"


def test_the_model_cannot_be_two(capsys: pytest.CaptureFixture) -> None:
    assert "named twice" in rejected(capsys, "demo", "--model", "other/model")


def test_the_environment_stands_behind_the_options() -> None:
    environ = {"QWEN3_ASR_MLX_MODEL": "env/model", "QWEN3_ASR_MLX_CACHE_DIR": "/env"}
    assert parse(**environ) == Settings(model="env/model", cache_dir=Path("/env"))
    assert parse("--model", "demo", "--cache-dir", "/c", **environ) == Settings(model="demo", cache_dir=Path("/c"))


def test_servers_take_the_place_of_a_model() -> None:
    settings = parse("--engine", "http://a:8000/, https://b/asr/v1", "--engine-token-file", "/t")
    assert (settings.engine, settings.model) == (("http://a:8000", "https://b/asr"), "served")
    assert (settings.engine_token_file, settings.aligner) == (Path("/t"), None)
    addresses = "http://v1,http://[::1]:8/,http://a//v1//,http://a/,HTTP://a/b/"
    assert parse("--engine", addresses).engine == ("http://v1", "http://[::1]:8", "http://a", "http://a/b")
    assert parse("--engine", "http://a", "--model", "own/model").model == "own/model"
    environ = {"QWEN3_ASR_MLX_ENGINE": "http://a", "QWEN3_ASR_MLX_MODEL": "own/model"}
    assert parse(**environ) == Settings(engine=("http://a",), model="own/model")
    assert parse("--engine", "http://b", **environ).engine == ("http://b",)


@pytest.mark.parametrize(
    "address", ["a:8000", "http://", "http://a:x", "http://u:p@a", "http://a?b", "http://a,", "ftp://a"]
)
def test_an_address_that_is_none_is_rejected(address: str, capsys: pytest.CaptureFixture) -> None:
    assert "expected a" in rejected(capsys, "--engine", address)


def test_an_empty_variable_counts_as_unset() -> None:
    assert parse(QWEN3_ASR_MLX_MODEL="", QWEN3_ASR_MLX_CACHE_DIR="", QWEN3_ASR_MLX_ENGINE="") == Settings()


def test_a_home_folder_in_the_cache_dir_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse("--cache-dir", "~/cache").cache_dir == Path("/home/someone/cache")


@pytest.mark.parametrize(
    ("argv", "environ", "folder"),
    [
        ("--state-dir /s", {"QWEN3_ASR_MLX_HOME": "/home"}, "/s"),
        ("", {"QWEN3_ASR_MLX_HOME": "/home", "HOME": "/u"}, "/home/state"),
        ("", {}, None),
    ],
)
def test_the_state_folder_is_the_options_or_in_the_launchers_home(
    argv: str, environ: dict[str, str], folder: str | None
) -> None:
    assert parse(*argv.split(), **environ).state_dir == (folder and Path(folder))


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {"HOME": "/u"}, "/u/.cache/qwen3-asr-mlx-runtime/state"),
        ("linux", {"HOME": "/u", "XDG_CACHE_HOME": "/x"}, "/x/qwen3-asr-mlx-runtime/state"),
        ("darwin", {"HOME": "/u", "XDG_CACHE_HOME": "/x"}, "/u/Library/Caches/qwen3-asr-mlx-runtime/state"),
    ],
)
def test_the_state_folder_lies_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, platform: str, environ: dict[str, str], folder: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert parse(**environ).state_dir == Path(folder)


@pytest.mark.parametrize("mode", ["once", "always", "never"])
def test_how_often_weights_are_verified_is_an_option(mode: str) -> None:
    assert parse("--verify", mode).verify == mode
    assert parse().verify == "once"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--dtype", "int8"], "--dtype"),
        (["--language", "Klingon"], "--language"),
        (["--languages", "en,Klingon"], "--languages"),
        (["--languages", "en,auto"], "--languages"),
        (["--languages", ""], "--languages"),
        (["--languages", "en", "--language", "en"], "--languages"),
        (["--language", "auto", "--languages", "en"], "--languages"),
        (["--terms", ""], "--terms"),
        (["--terms", "Ada,"], "--terms"),
        (["--terms", "Ada=5"], "--terms"),
        (["--terms", "Ada=-1"], "--terms"),
        (["--terms", "Ada=nan"], "--terms"),
        (["--terms", "Ada=much"], "--terms"),
        (["--terms", "=2"], "--terms"),
        (["--terms", "x" * 65], "--terms"),
        (["--terms", ",".join(["Ada"] * 101)], "--terms"),
        (["--max-new-tokens", "-1"], "--max-new-tokens"),
        (["--max-new-tokens", "1000000000"], "--max-new-tokens"),
        (["--max-new-tokens", "2.5"], "--max-new-tokens"),
        (["--max-chunk-seconds", "0.2"], "--max-chunk-seconds"),
        (["--max-chunk-seconds", "1201"], "--max-chunk-seconds"),
        (["--max-chunk-seconds", "20", "--max-audio-seconds", "10"], "--max-chunk-seconds"),
        (["--max-chunk-seconds", "1e308", "--max-audio-seconds", "1e308"], "-seconds"),
        (["--max-audio-seconds", "nan"], "--max-audio-seconds"),
        (["--max-audio-seconds", "inf"], "--max-audio-seconds"),
        (["--max-audio-seconds", "long"], "--max-audio-seconds"),
        (["--parent-pid", "0"], "--parent-pid"),
        (["--verify", "sometimes"], "--verify"),
        (["--context", "x" * 16_385], "--context"),
        (["--model", ""], "--model"),
        (["--mod", "demo"], "--mod"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_bad_option_is_named_on_stderr_and_ends_with_2(
    argv: list[str], named: str, capsys: pytest.CaptureFixture
) -> None:
    assert named in rejected(capsys, *argv)


def test_the_model_may_be_left_to_decide_on_the_language() -> None:
    assert parse("--language", "auto") == Settings()


def test_the_model_may_decide_among_languages() -> None:
    assert parse("--languages", "ar, English,en").languages == ("English", "Arabic")


def test_terms_have_weights() -> None:
    assert parse("--terms", "Ada Lovelace, Menabrea=3, 2+2=4=0.5").terms == (
        Term("Ada Lovelace", DEFAULT_TERM_WEIGHT),
        Term("Menabrea", 3.0),
        Term("2+2=4", 0.5),
    )
    assert parse().terms == ()


def test_an_unknown_language_is_rejected_with_the_known_ones(capsys: pytest.CaptureFixture) -> None:
    assert "Arabic (ar)" in rejected(capsys, "--language", "100%")


@pytest.mark.parametrize("option", ["--no-cache", "--no-trust-remote-code"])
def test_an_option_without_effect_is_accepted_with_one_notice(option: str) -> None:
    line = parse_command_line([option], {})
    assert line.settings == Settings()
    assert len(line.notices) == 1
    assert line.notices[0].startswith(f"{option} has no effect: ")


def test_help_names_every_option_and_the_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(["--help"], {"QWEN3_ASR_MLX_MODEL": "100%/model"})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert {"--model", "--cache-dir", "--language", "--context", "--dtype", "--parent-pid", "100%/model"} <= {
        word.strip("[],;)") for word in text.split()
    }


@pytest.mark.parametrize(
    ("argv", "printed"),
    [
        (["--nonsense=/home/me/talk.wav"], "unrecognized arguments: --nonsense=/home/me/talk.wav"),
        (["demo", "/home/me/talk.wav"], "unrecognized arguments: /home/me/talk.wav"),
        (["--max-new-tokens", "many"], "argument --max-new-tokens: expected a whole number from 0 to 4096, got 'many'"),
        (["--max-audio-seconds", "it's long"], """got "it's long\""""),
        (["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--language", "Klingon"], "got 'Klingon'"),
        (["--dtype", "int8\x1b[31m\n"], "argument --dtype: invalid choice: 'int8"),
    ],
)
def test_a_refusal_says_the_value_that_was_given_on_one_line(
    argv: list[str], printed: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        parse_command_line(argv, {})
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith("qwen3-asr-mlx-bridge: ")
    assert printed in line
    assert line.isprintable()


@pytest.mark.parametrize("name", [name for name, limit in LIMITS.items() if limit.bounds is not None])
def test_a_limit_with_an_option_is_set_within_its_bounds(name: str, capsys: pytest.CaptureFixture) -> None:
    assert getattr(Settings(), name) == LIMITS[name].default
    least, most = LIMITS[name].bounds
    for value in (least, most):
        assert parse(option_of(name), str(value)) == Settings(**{name: value})
    for value in (least - 1, most + 1):
        assert option_of(name) in rejected(capsys, f"{option_of(name)}={value}")
