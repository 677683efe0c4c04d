"""The window's routes: each is one verb of the control socket (docs/window.md has the JSON)."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from socket import gethostname
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sojourn import __version__
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.stream_client import StreamClient
from sojourn.window import qr
from sojourn.window.answers import STATUS, error_response, failure, json_response
from sojourn.window.feed import feed
from sojourn.window.guard import HELLO, is_nonce, proof

STATIC: Final = Path(__file__).with_name("static")
TYPES: Final = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".woff2": "font/woff2", ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}  # fmt: skip
QUESTIONS: Final[dict[str, tuple[str, dict[str, Callable[[str], Any]]]]] = {
    "policies": ("policy_file", {}),
    "history": ("history", {"from": float, "until": float, "points": int, "network": str}),
    "usage": ("usage", {"months": int}),
    "log": ("log_before", {"before": int, "limit": int}),
}
"""GET: path -> verb, and the type of each argument in the query."""
ORDERS: Final = {
    "handover": "handover",
    "network": "network_use",
    "undo": "undo",
    "up": "up",
    "down": "down",
    "answer": "answer",
    "answers/forget": "forget_answers",
    "policies/test": "policy_edit_test",
    "policies/save": "policy_save",
    "policies/explain": "policy_explain",
    "anchor/end": "end",
    "anchor/revoke": "revoke",
    "anchor/token": "token",
    "anchor/expose": "expose",
    "anchor/unexpose": "expose_remove",
}
"""POST: path -> verb, whose arguments are the body."""

Handler = Callable[[Request], Awaitable[Response]]


def application(client: StreamClient, token: str) -> Starlette:
    """Return the routes, unguarded (guard.py)."""
    routes = [
        Route("/", _page),
        Route("/static/{path:path}", _static),
        Route(HELLO, _hello(token)),
        Route("/api/about", _about(client)),
        Route("/api/events", _events(client)),
        *(Route(f"/api/{path}", _question(client, verb, types)) for path, (verb, types) in QUESTIONS.items()),
        *(Route(f"/api/{path}", _order(client, verb), methods=["POST"]) for path, verb in ORDERS.items()),
        Route("/{path:path}", _nothing, methods=["GET", "POST"]),
    ]
    return Starlette(routes=routes)


async def _page(_request: Request) -> Response:
    return _file("index.html")


async def _static(request: Request) -> Response:
    return _file(request.path_params["path"])


async def _nothing(request: Request) -> Response:
    return error_response(ErrorKind.UNKNOWN_VERB, f"there is nothing at {request.url.path[:100]}", "")


@cache
def page_files() -> Mapping[str, bytes]:
    """Return every file of the page by its name below `static`.

    Read once, while we may: the half that serves cannot open what only root may enter (unprivileged.py).
    """
    return {
        path.relative_to(STATIC).as_posix(): path.read_bytes() for path in STATIC.rglob("*") if path.suffix in TYPES
    }


def _file(name: str) -> Response:
    content = page_files().get(name)
    if content is None:
        return error_response(ErrorKind.UNKNOWN_VERB, "there is no such file", "")
    return Response(content, media_type=TYPES[PurePosixPath(name).suffix])


def _hello(token: str) -> Handler:
    async def hello(request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not is_nonce(nonce):
            return error_response(ErrorKind.USAGE, "the nonce is not 32 to 64 hexadecimal digits", "")
        return json_response({"version": 1, "proof": proof(token, nonce)})

    return hello


def _about(client: StreamClient) -> Handler:
    async def about(_request: Request) -> Response:
        try:
            told = await client.call("about")
        except ApiError as error:
            return _failed(error)
        return json_response({**told, "window": __version__, "hostname": gethostname()})

    return about


def _events(client: StreamClient) -> Handler:
    async def events(_request: Request) -> Response:
        return StreamingResponse(feed(client), media_type="text/event-stream")

    return events


def _question(client: StreamClient, verb: str, types: dict[str, Callable[[str], Any]]) -> Handler:
    async def question(request: Request) -> Response:
        arguments: dict[str, Any] = {}
        for name, text in request.query_params.items():
            try:
                arguments[name] = types[name](text)
            except (KeyError, ValueError):
                return error_response(ErrorKind.USAGE, f"{name[:40]} is no argument, or not of this form", "")
        return await _ask(client, verb, arguments)

    return question


def _order(client: StreamClient, verb: str) -> Handler:
    async def order(request: Request) -> Response:
        try:
            arguments = msgspec.json.decode(await request.body() or b"{}", type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ClientDisconnect):
            return error_response(ErrorKind.USAGE, "the body is no JSON object", "")
        return await _ask(client, verb, arguments)

    return order


async def _ask(client: StreamClient, verb: str, arguments: dict[str, Any]) -> Response:
    try:
        answer = await client.call(verb, arguments)
    except ApiError as error:
        return _failed(error)
    if verb == "token":
        answer = {**answer, "qr_svg": qr.svg(answer["token"])}
    return json_response(answer)


def _failed(error: ApiError) -> Response:
    return json_response(failure(error), STATUS.get(error.kind, 500))
