"""What a client learns about the engine behind the bridge."""

from typing import Literal

import msgspec

ENGINE_FEATURES = (
    "language",
    "logprobs",
    "words",
    "align",
    "languages",
    "drift_guard",
    "terms",
    "context_echo",
    "repaired",
)


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What decodes: a `local` model, or a `remote` server, with its name and version and that of its model.

    `exact`: streamed, batched and whole audio have the same text. `features`: those that the engine has a say in.
    `forced_language`: how a named language is forced: by the `prompt`, by a `chat_template` in the request, or by the
    path of `transcriptions`; null where it is not. What only a server can answer is null until one has.
    """

    kind: Literal["local", "remote"]
    server: str | None = None
    version: str | None = None
    model: str | None = None
    exact: bool = True
    features: list[str]
    forced_language: Literal["prompt", "chat_template", "transcriptions"] | None = None


def remote_features(*, has_aligner: bool, forces_language: bool) -> list[str]:
    """Those of a remote engine."""
    has = {"language": forces_language, "logprobs": True, "words": has_aligner, "align": has_aligner}
    return [name for name in ENGINE_FEATURES if has.get(name)]
