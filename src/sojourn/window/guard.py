"""Who may ask the window's server for what: the gate in front of every route.

It listens on 127.0.0.1, where every program of every local user can connect, and where a browser lets any web page
send requests. So:

- `Host` must be our own address: a page of another site whose name was rebound to 127.0.0.1 says its own name.
- `Origin`, where the browser sends one, must be ours, and `Sec-Fetch-Site` must not say that another site asks.
- `/api/` needs the token, which stands in the fragment of the address that the browser was opened with: a fragment is
  never sent to any server, and a header of our own is never added by a browser by itself, as a cookie is.
- What changes anything is a POST with a JSON body, which no form of another site can send.
- No answer may be framed, sniffed, cached, or read by another origin, and pages load nothing from elsewhere.

The other way round a page must know that it speaks to the server that it was opened for: when the window has ended,
another user's program may sit on its port. `/api/hello` proves it with the token, without sending it.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sojourn.api.messages import ErrorKind
from sojourn.window.answers import TOKEN, error_response

MAX_BODY: Final = 256 << 10
PROOF_PREFIX: Final = "sojourn window "
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
    "cache-control": "no-store",
}
HELLO: Final = "/api/hello"
_NONCE = re.compile(r"[0-9a-f]{32,64}")


def proof(token: str, nonce: str) -> str:
    """Return what proves to a page that we know its token."""
    return hmac.new(token.encode(), (PROOF_PREFIX + nonce).encode(), hashlib.sha256).hexdigest()


def is_nonce(text: str) -> bool:
    """Say whether a page's nonce has the form that we answer to."""
    return _NONCE.fullmatch(text) is not None


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, token: str, port: int, proved: Callable[[tuple[str, int]], None]) -> None:
        """`proved`: called with a connection's other end when it has shown the token."""
        self._app = app
        self._proved = proved
        self._token = hashlib.sha256(token.encode()).digest()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSocket: the server closes it

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, sealed)
        else:
            await self._app(scope, _Limited(receive), sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return _refuse("this address is not the window's", "Open the address that `sojourn window` printed.")
        origins = headers.getlist("origin")
        elsewhere = headers.get("sec-fetch-site") not in (None, "same-origin", "none")
        if (origins and (len(origins) > 1 or origins[0] not in self._origins)) or (
            elsewhere and (scope["path"].startswith("/api/") or headers.get("sec-fetch-mode") != "navigate")
        ):
            return _refuse("another site's page asks", "Only the window's own page may.")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return error_response(ErrorKind.USAGE, "only GET and POST are known", "", 405)
        if not scope["path"].startswith("/api/") or scope["path"] == HELLO:
            return None
        refusal = self._without_token(headers)
        if refusal is None and scope["client"] is not None:
            self._proved(tuple(scope["client"]))
        return refusal or _wrong_body(scope["method"], headers)

    def _without_token(self, headers: Headers) -> Response | None:
        """Compare digests in constant time: how long it takes says nothing about the token."""
        given = headers.getlist("authorization")
        word, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        right = hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._token)
        if right and word.lower() == "bearer":
            return None
        return error_response(TOKEN, "the token is missing or wrong", "Run `sojourn window` again.", 401)


def _wrong_body(method: str, headers: Headers) -> Response | None:
    if method != "POST":
        return None
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return error_response(ErrorKind.USAGE, "the body is not JSON", "Send application/json.", 415)
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return error_response(ErrorKind.USAGE, f"the body is longer than {MAX_BODY} bytes", "Send less.", 413)
    return None


def _refuse(message: str, remedy: str) -> Response:
    return error_response(ErrorKind.NO_PERMISSION, message, remedy, 403)


class _Limited:
    """A body that ends in an error when it is longer than it may be, whatever its head said."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MAX_BODY

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        return message if self._left >= 0 else {"type": "http.disconnect"}
