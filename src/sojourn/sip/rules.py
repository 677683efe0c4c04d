"""What a server refuses before it looks at what a request wants (RFC 3261 §8.2, §16.3 for syntax).

The order is the RFC's: syntax (400), version (505), method (405), Request-URI (416), loops are a
proxy's matter, Require (420), content (415).
"""

import re
from collections.abc import Collection
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.sip.message import Request, Response, parse_uri, response

METHODS: Final = ("REGISTER", "MESSAGE", "OPTIONS")
"""What an anchor and a mobile host take."""
ACCEPTED: Final = ("application/json", "application/text")
"""JSON, and the name that the paper's Fig. 9 gives it."""
_ONCE: Final = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Expires", "Content-Type")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


class Unanswerable(RemoteProtocolError):
    """So broken that there is no way to answer, or a method that is never answered (ACK)."""

    reason = "unanswerable"


def refusal(request: Request, methods: Collection[str] = METHODS, extensions: Collection[str] = ()) -> Response | None:
    """Return the answer to a request that must be refused, or None for one to go on with.

    Raises Unanswerable for one to be dropped.
    """
    try:
        _ = request.via
    except RemoteProtocolError as error:
        raise Unanswerable(str(error)) from error
    if request.method == "ACK":
        raise Unanswerable("ACK without INVITE", reason="ack")
    problem = _syntax(request)
    if problem is not None:
        # Some peers (SIPp 3.6) look for "CSeq" in the status line, too.
        return response(request, 400, problem.replace("CSeq", "Sequence number"))
    if request.version != "SIP/2.0":
        return response(request, 505)
    if request.method == "CANCEL":
        return response(request, 481)  # §9.2: nothing here can be cancelled
    if request.method not in methods:
        return response(request, 405, headers=[("Allow", ", ".join(methods))])
    return _scheme(request) or _extensions(request, extensions) or _content(request)


def options_answer(request: Request, methods: Collection[str] = METHODS) -> Response:
    """Say what we can do (RFC 3261 §11.2)."""
    headers = [("Allow", ", ".join(methods)), ("Accept", ", ".join(ACCEPTED)), ("Supported", "")]
    return response(request, 200, headers=headers)


def refuse(request: Request, status: int, why: str, remedy: str | None = None, *more: tuple[str, str]) -> Response:
    """Answer with `why` as the phrase and, for a person to read, the remedy as a Warning (§20.43, code 399)."""
    headers = list(more)
    if remedy is not None:
        headers.append(("Warning", f'399 sojourn "{remedy.replace(chr(34), chr(39))}"'))
    return response(request, status, why, headers=headers)


def remedy_of(answer: Response) -> str | None:
    """Return the text of the Warning that `refuse` put in, or None."""
    value = answer.header("Warning")
    if value is None or not value.startswith("399 "):
        return None
    return value.partition('"')[2].rpartition('"')[0] or None


def _syntax(request: Request) -> str | None:
    """Name the first header that cannot be read (§8.2: malformed requests get 400 with the reason)."""
    for name in _ONCE:
        if len(request.headers.getlist(name)) > 1:
            return f"{name} more than once"
    for name, value in (("Max-Forwards", 255), ("Content-Length", 2**31 - 1)):
        text = request.header(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= value):
            return f"Malformed {name}"
    try:
        _ = request.vias, request.from_, request.to, request.call_id, request.contacts
        method = request.cseq.method
    except RemoteProtocolError as error:
        return _phrase(error)
    return None if method == request.method else "CSeq names another method"


def _scheme(request: Request) -> Response | None:
    if not request.uri.lower().startswith(("sip:", "sips:")):
        return response(request, 416 if _SCHEME.match(request.uri) and " " not in request.uri else 400)
    try:
        parse_uri(request.uri)
    except RemoteProtocolError as error:
        return response(request, 400, _phrase(error))
    return None


def _extensions(request: Request, known: Collection[str]) -> Response | None:
    unknown = [option for option in request.tokens("Require") if option not in known]
    if not unknown:
        return None
    return response(request, 420, headers=[("Unsupported", ", ".join(unknown))])


def _content(request: Request) -> Response | None:
    coded = request.header("Content-Encoding")
    kind = request.content_type
    if (coded and coded.lower() != "identity") or (request.body and kind not in ACCEPTED):
        return response(request, 415, headers=[("Accept", ", ".join(ACCEPTED)), ("Accept-Encoding", "identity")])
    return None


def _phrase(error: RemoteProtocolError) -> str:
    """Make a reason phrase: one line, without what the peer wrote."""
    return f"Bad Request: {str(error).partition(':')[0]}"[:80]
