"""How an app starts the bridge."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.client.life import Limits
from qwen3_asr_mlx_runtime.client.messages import Direction
from qwen3_asr_mlx_runtime.protocol.commands import WANTS

_PARENT = "--parent-pid"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How to start the bridge, and the callbacks. `env` replaces the whole environment; None keeps this process's.
    `on_stderr` and `trace` run on the threads that read and that send requests; they must neither wait nor raise.
    `trace` gets audio and transcripts. `resend`: where something waits, a lost bridge is started again at once. It gets
    again the open streams, requests without a reply and utterances without an outcome, as far as their audio fits into
    `limits.kept_bytes`."""

    command: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: str | Path | None = None
    want: Sequence[str] = WANTS
    name: str = "qwen3-asr-mlx-runtime python client"
    version: str = __version__
    resend: bool = False
    limits: Limits = field(default_factory=Limits)
    on_stderr: Callable[[str], None] | None = None
    trace: Callable[[Direction, bytes], None] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.command, str) or not self.command:
            raise ValueError("expected a command line as a list: the program, and each of its arguments")

    @property
    def argv(self) -> list[str]:
        """The command line, with the parent's pid: if this process dies early, the bridge sees only its adopter's."""
        named = any(word == _PARENT or word.startswith(f"{_PARENT}=") for word in self.command)
        return [*self.command, *(() if named else (_PARENT, str(os.getpid())))]
