"""What both clients have: properties that need no request, and the process of a request."""

import warnings
import weakref
from collections.abc import Sequence
from concurrent.futures import Future

from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.kept import Era
from qwen3_asr_mlx_runtime.client.messages import members_of
from qwen3_asr_mlx_runtime.client.session import Session, State
from qwen3_asr_mlx_runtime.client.setup import Setup
from qwen3_asr_mlx_runtime.protocol.commands import Id, StartStream
from qwen3_asr_mlx_runtime.protocol.replies import Line


class BridgeProperties:
    """Describe the process that runs now, or the last one. Without `stop` it is killed when the client is
    garbage-collected or the app exits."""

    def __init__(self, setup: Setup | Sequence[str]) -> None:
        self._session = Session(setup if isinstance(setup, Setup) else Setup(command=setup))
        weakref.finalize(self, _drop, self._session)

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def pid(self) -> int | None:
        connection = self._session.connection
        return None if connection is None else connection.child.pid

    @property
    def exit(self) -> Exit | None:
        """How the last process ended."""
        return self._session.exit

    @property
    def stderr(self) -> tuple[str, ...]:
        connection = self._session.connection
        return () if connection is None else connection.stderr

    @property
    def restarts(self) -> int:
        return self._session.restarts

    def _era(self, command: StartStream) -> Era | None:
        """The processes that this stream outlives, if a later process opens it again."""
        kept = self._session.kept
        return kept.era if kept is not None and kept.has(members_of(command)) else None

    def _abandon(self, connection: Connection, id: Id, reply: "Future[Line]") -> None:
        """`connection`: the process that got the request."""
        if self._session.kept is not None:
            self._session.kept.abandon(id)
        self._session.answering(connection).abandon(id, reply)


def _drop(session: Session) -> None:
    session.is_dropped = True
    connection = session.connection
    if connection is not None and connection.drop():
        message = f"the speech bridge {connection.child.pid} was not stopped, and is killed"
        warnings.warn(message, ResourceWarning, stacklevel=2, source=session)
