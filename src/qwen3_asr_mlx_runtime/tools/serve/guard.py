"""Who may ask: requests and WebSockets for this server by its own names, from no foreign page, with the token if there
is one."""

import hmac
import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from qwen3_asr_mlx_runtime.tools.serve.problems import Problem

OPEN_PATHS = ("/health",)
TOKEN_SUBPROTOCOL = "openai-insecure-api-key."  # noqa: S105 a prefix
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d+)?", re.IGNORECASE)


class Guard:
    """Refuses what a foreign web page can make a browser send: a `Host` that is a name (DNS rebinding) and none of
    `names`, an `Origin` that is none of `origins`. An address as `Host` cannot be rebound."""

    def __init__(self, app: ASGIApp, names: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._names = {"localhost", *map(str.lower, names)}
        self._origins = {*origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(Headers(scope=scope))
        await (problem.response() if problem else self._app)(scope, receive, send)

    def _problem(self, headers: Headers) -> Problem | None:
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            message = "expected an address or a name of this server as Host: --allow-host adds one"
            return Problem(403, "host_not_allowed", message)
        if origin is not None and origin not in self._origins:
            message = "this server answers no web pages of this origin: --allow-origin adds one"
            return Problem(403, "origin_not_allowed", message)
        return None

    def _is_own(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        return match is not None and (match[1].lower() in self._names or _is_address(match[1].strip("[]")))


class TokenCheck:
    """Refuses requests without the token; `/health` needs none. A page's WebSocket has no headers of its own: it brings
    the token as a subprotocol."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._bearer, self._subprotocol = f"Bearer {token}".encode(), f"{TOKEN_SUBPROTOCOL}{token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        message = "expected the token of this server, as `Authorization: Bearer TOKEN`"
        headers = {"WWW-Authenticate": "Bearer"}
        await Problem(401, "invalid_api_key", message, headers=headers).response()(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        offered = (name.encode("utf-8", "replace") for name in scope.get("subprotocols", ()))
        return hmac.compare_digest(given, self._bearer) or any(
            hmac.compare_digest(name, self._subprotocol) for name in offered
        )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
