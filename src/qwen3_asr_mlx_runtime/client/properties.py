"""Properties of the bridge that both clients have and that need no request."""

import warnings
import weakref
from collections.abc import Sequence

from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.session import Session, Setup, State


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


def _drop(session: Session) -> None:
    connection = session.connection
    if connection is not None and connection.drop():
        message = f"the speech bridge {connection.child.pid} was not stopped, and is killed"
        warnings.warn(message, ResourceWarning, stacklevel=2, source=session)
