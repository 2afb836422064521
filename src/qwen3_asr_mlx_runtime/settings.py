"""What the process was started with: every option, its environment variable and its default, once."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.limits import (
    DEFAULT_TERM_WEIGHT,
    LIMITS,
    MAX_KEEP_ALIVE_SECONDS,
    MAX_NEW_TOKENS,
    MAX_TERM_WEIGHT,
    ProcessLimits,
    option_of,
)
from qwen3_asr_mlx_runtime.model_name import DEFAULT_ALIGNER, DEFAULT_MODEL, SERVED, chosen_model, served_model
from qwen3_asr_mlx_runtime.model_name import model as model_word

if TYPE_CHECKING:  # the command line is read before any package may be missing
    from qwen3_asr_mlx_runtime.terms import Term

PROGRAM = "qwen3-asr-mlx-bridge"
ENGINE_VARIABLE = "QWEN3_ASR_MLX_ENGINE"
AlignDecoder = Literal["viterbi", "official"]
ALIGN_DECODERS = get_args(AlignDecoder)
DTYPES = ("float32", "bfloat16", "float16")
VERIFY = ("once", "always", "never")
QUANTIZE = ("8bit", "mixed")
SLOW_ON_A_CPU = "on a CPU about ten times slower than full precision"
IGNORED_OPTIONS = {
    "--no-cache": "the decoder always uses its key/value cache",
    "--no-trust-remote-code": "code of a model repository is never run",
}


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessLimits):
    """How this process transcribes, and its limits.

    `model` and `aligner`: a Hugging Face repository, a local folder, or `demo`; without an aligner, the one of
    model_name.py that fits the model. `cache_dir`: None means Hugging Face's own. `language` (a canonical name or
    None), `languages` (canonical names, none for a free choice), `context`, `terms` and `token_budget` (0: until the
    model stops, within max(128, 12 a second + 32)) stand for requests that give none of their own. `dtype`: None means
    the checkpoint's. `segment_seconds`: longer audio is decoded in segments. `parent_pid`: a process whose end ends
    this one, besides the one that started it. `lazy`: the engine's process starts with the first load, and not with
    this one. `keep_alive_seconds`: how long an idle model stays loaded, None for ever. `verify`: how often weights are
    compared with their digest; `state_dir`: where what was verified is remembered, None for nowhere. `stall_seconds`: a
    download that brings nothing for so long fails. `memory_limit_bytes`, `cache_limit_bytes` and `wired_limit_bytes`
    are those of engine/memory.py. `quantize`: a scheme of checkpoint/quantize.py, None for weights as they are stored;
    `force_4bit_tower`: run a checkpoint with such a tower. `engine`: addresses of vLLM servers that decode in place of
    a local model, none for that; then `model` is a name that they serve, and an aligner is used only if it is named.
    `engine_token_file` holds the token that they ask for.
    """

    model: str = DEFAULT_MODEL
    engine: tuple[str, ...] = ()
    engine_token_file: Path | None = None
    aligner: str | None = None
    align_decoder: AlignDecoder = "viterbi"
    cache_dir: Path | None = None
    language: str | None = None
    languages: tuple[str, ...] = ()
    context: str = ""
    terms: "tuple[Term, ...]" = ()
    dtype: str | None = None
    quantize: str | None = None
    force_4bit_tower: bool = False
    token_budget: int = 0
    segment_seconds: float = 30.0
    local_files_only: bool = False
    verify: str = "once"
    state_dir: Path | None = None
    stall_seconds: float = 120.0
    parent_pid: int | None = None
    lazy: bool = False
    keep_alive_seconds: float | None = None
    memory_limit_bytes: int | None = None
    cache_limit_bytes: int | None = None
    wired_limit_bytes: int = 0

    @property
    def backend(self) -> str:
        """What decodes, as `asr_backend` names it."""
        return "remote" if self.engine else "mlx"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A parsed command line. `notices` are lines for stderr about options that do nothing."""

    settings: Settings
    print_capabilities: bool
    print_schema: bool
    notices: tuple[str, ...]


def parse_command_line(argv: Sequence[str], environ: Mapping[str, str]) -> CommandLine:
    """Parse the arguments after the program's name. A bad option ends the process: a line on stderr, exit 2."""
    parser = _parser(environ)
    options = parser.parse_args(argv)
    if options.model and options.positional_model and options.model != options.positional_model:
        parser.error("the model is named twice, and differently: as an argument and with --model")
    if getattr(options, "segment_seconds", 0.0) > options.max_audio_seconds:
        limit = f"{options.max_audio_seconds:g} seconds, the limit of --max-audio-seconds"
        parser.error(f"argument --max-chunk-seconds: expected at most {limit}")
    given = {field.name: getattr(options, field.name) for field in fields(Settings) if field.name in options}
    given["engine"] = _engine(parser, options.engine, environ)
    choose = served_model if given["engine"] else chosen_model
    given["model"] = _model(parser, choose(options.model or options.positional_model, environ))
    given["cache_dir"] = values.expanded(options.cache_dir or environ.get("QWEN3_ASR_MLX_CACHE_DIR"))
    given["state_dir"] = values.state_dir(options.state_dir, environ)
    notices = [f"{option} has no effect: {IGNORED_OPTIONS[option]}" for option in options.ignored or ()]
    return CommandLine(Settings(**given), options.print_capabilities, options.print_schema, tuple(notices))


def _engine(parser: argparse.ArgumentParser, given: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Also where the environment names it."""
    named = environ.get(ENGINE_VARIABLE)
    try:
        return given or (values.servers(named) if named else ())
    except argparse.ArgumentTypeError as error:
        parser.error(f"{ENGINE_VARIABLE}: {error}")


def _model(parser: argparse.ArgumentParser, name: str) -> str:
    """Also where the environment names it."""
    try:
        return model_word(name)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = Parser(
        PROGRAM,
        "Speech to text with Qwen3-ASR on MLX: requests on stdin, replies on stdout, a JSON object a line.",
        f"example: {PROGRAM} --model demo < examples/demo.jsonl",
    )
    _add_model_options(parser, environ)
    _add_decoding_options(parser)
    _add_process_options(parser)
    _add_memory_options(parser, environ)
    return parser


def _add_model_options(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    model = chosen_model(None, environ)
    parser.add_argument("positional_model", nargs="?", type=values.name, metavar="MODEL", help="the same as --model")
    parser.add_argument(
        "--model",
        type=values.name,
        help=f"repository, folder, or `demo` (QWEN3_ASR_MLX_MODEL; now {model.replace('%', '%%')}); with --engine a"
        f" name that its servers have (default there: `{SERVED}`, their only one)",
    )
    parser.add_argument(
        "--engine",
        type=values.servers,
        metavar="URL,...",
        default=(),
        help="vLLM servers that decode in place of a local model: speech is sent to them"
        f" ({ENGINE_VARIABLE}; default: none)",
    )
    parser.add_argument(
        "--engine-token-file",
        type=Path,
        metavar="FILE",
        help="holds the token of the servers (QWEN3_ASR_MLX_ENGINE_TOKEN: the token)",
    )
    parser.add_argument(
        "--aligner",
        type=model_word,
        metavar="MODEL",
        help=f"gives words their times (default: {DEFAULT_ALIGNER}, or the embedded one with `--model demo`; with"
        " --engine none)",
    )
    parser.add_argument(
        "--align-decoder",
        choices=ALIGN_DECODERS,
        default=Settings.align_decoder,
        help="`official`: the times of qwen-asr, where a word may last 0 s (default: viterbi)",
    )
    parser.add_argument(
        "--cache-dir",
        type=values.name,
        help="where snapshots are kept (QWEN3_ASR_MLX_CACHE_DIR; default Hugging Face's own)",
    )
    parser.add_argument("--dtype", choices=DTYPES, help="compute in this type (default: the checkpoint's)")
    parser.add_argument(
        "--quantize",
        choices=QUANTIZE,
        help=f"the decoder's weights in 8 or 4 bits, the rest in 8; {SLOW_ON_A_CPU}",
    )
    parser.add_argument("--force-4bit-tower", action="store_true", help="run a checkpoint whose audio tower has 4 bits")
    parser.add_argument("--local-files-only", action="store_true", help="never download")
    parser.add_argument(
        "--verify",
        choices=VERIFY,
        default=Settings.verify,
        help="compare weights with the digest that the cache names them by (default: once, until they change)",
    )
    parser.add_argument(
        "--state-dir",
        type=values.name,
        help="where verified weights are remembered (default: state/ in QWEN3_ASR_MLX_HOME or the user's cache folder)",
    )


def _add_decoding_options(parser: argparse.ArgumentParser) -> None:
    languages = parser.add_mutually_exclusive_group()
    languages.add_argument(
        "--language",
        type=values.language,
        default=argparse.SUPPRESS,
        help="name, ISO code, or `auto`: the model decides (the default)",
    )
    languages.add_argument(
        "--languages",
        type=values.languages,
        metavar="LANGUAGE,...",
        default=Settings.languages,
        help="names or ISO codes: the model decides among these",
    )
    parser.add_argument(
        "--context", type=values.context, default="", help="words or text given to the model as background"
    )
    parser.add_argument(
        "--terms",
        type=values.terms,
        metavar="TERM[=WEIGHT],...",
        default=Settings.terms,
        help=f"what the text is likely to have; weights: 0 to {MAX_TERM_WEIGHT:g} (default {DEFAULT_TERM_WEIGHT:g})",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=values.whole_number(0, MAX_NEW_TOKENS),
        dest="token_budget",
        metavar="TOKENS",
        default=Settings.token_budget,
        help="budget of each segment (default 0: until the model stops, within max(128, 12 a second + 32))",
    )
    parser.add_argument(
        "--max-chunk-seconds",
        type=values.seconds(1.0),
        dest="segment_seconds",
        metavar="SECONDS",
        default=argparse.SUPPRESS,
        help="longer audio is cut at a quiet place before this length, which is --max-audio-seconds at most"
        f" (default {Settings.segment_seconds})",
    )


def _add_process_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parent-pid", type=values.whole_number(1, 2**31 - 1), help="exit when this process has gone")
    for name, limit in LIMITS.items():
        if limit.bounds is not None:
            parse, metavar = _number(name, isinstance(limit.default, int), *limit.bounds)
            parser.add_argument(
                option_of(name),
                type=parse,
                metavar=metavar,
                default=limit.default,
                help=f"at most, {limit.meaning} (default {limit.default})",
            )
    parser.add_argument(
        "--keep-alive-seconds",
        type=values.seconds(0.0, MAX_KEEP_ALIVE_SECONDS),
        metavar="SECONDS",
        help="unload the model after so many idle seconds, 0: after each outcome with nothing waiting (default: never)",
    )
    parser.add_argument("--lazy", action="store_true", help="start the engine's process with the first load")
    parser.add_argument("--print-capabilities", action="store_true", help="print what this build does, and exit")
    parser.add_argument("--print-schema", action="store_true", help="print the JSON Schema of all messages, and exit")
    parser.add_argument("--no-install", action="store_true", help="the launcher's: never install anything")
    for option, reason in IGNORED_OPTIONS.items():
        parser.add_argument(option, dest="ignored", action="append_const", const=option, help=f"no effect: {reason}")


def _number(limit: str, is_count: bool, low: float, high: float) -> tuple[Callable[[str], float], str]:
    """How the option of a limit is read, and what its help calls the value."""
    if is_count:
        return values.whole_number(int(low), int(high)), "COUNT"
    return (values.seconds(low, high), "SECONDS") if limit.endswith("_seconds") else (values.number(low, high), "SHARE")


def _add_memory_options(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    for kind, of in (
        ("memory", "what the model and its work may take, or be refused (default: what the machine recommends)"),
        ("cache", "freed memory kept for the next job (default: 512 on a GPU, 32 on a CPU, less on a small machine)"),
        ("wired", "memory that macOS may not page out (default 0: none)"),
    ):
        variable = f"QWEN3_ASR_MLX_{kind.upper()}_LIMIT_MB"
        parser.add_argument(
            f"--{kind}-limit-mb",
            type=values.mebibytes,
            dest=f"{kind}_limit_bytes",
            metavar="MEBIBYTES",
            default=environ.get(variable) or getattr(Settings, f"{kind}_limit_bytes"),
            help=f"{of} ({variable})",
        )
