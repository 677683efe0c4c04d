"""SIP requests and responses: reading, building, writing (RFC 3261 §7, §8, §20).

The only file that knows `sipmessage`: its header store, compact forms, URI and CSeq grammar
are used, and what it lacks is mended here: folded lines, `Contact: *`, text that is
not UTF-8, and errors as new instances of RemoteProtocolError.

`parse` is lenient where an answer needs it: it takes any version, method and Request-URI as
text, so that `sip/rules.py` can answer 505, 405 and 416. Header accessors raise
RemoteProtocolError for what they cannot read.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from sipmessage import URI as URI
from sipmessage import CSeq as CSeq
from sipmessage import Headers
from sipmessage.message import COMPACT_FORMS

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip import via as via_module
from sojourn.sip.grammar import Parameters, format_parameters, is_token, parse_number, parse_parameters, split, unquote
from sojourn.sip.via import MAGIC_COOKIE, MAX_VIAS
from sojourn.sip.via import Via as Via

# Ours: what we are ready to read.
MAX_HEAD_BYTES: Final = 16384
MAX_HEADER_LINES: Final = 128
MAX_URI_CHARACTERS: Final = 1024

# The protocol's.
MAX_SEQUENCE: Final = 2**31 - 1
MAX_EXPIRES: Final = 2**32 - 1

PHRASES: Final = {
    100: "Trying", 200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 413: "Request Entity Too Large",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension", 423: "Interval Too Brief",
    480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected",
    483: "Too Many Hops", 488: "Not Acceptable Here", 500: "Server Internal Error", 501: "Not Implemented",
    503: "Service Unavailable", 505: "Version Not Supported", 513: "Message Too Large",
}  # fmt: skip

_START_OF_REQUEST = re.compile(r"(?P<method>\S+) (?P<uri>\S.*) (?P<version>SIP/[0-9]+\.[0-9]+)", re.IGNORECASE)
_START_OF_RESPONSE = re.compile(r"SIP/2\.0 (?P<status>[1-6][0-9]{2}) (?P<phrase>.*)", re.IGNORECASE)


class Address(Struct, frozen=True):
    """What From, To and Contact hold: a name, a URI and parameters of the header (not of the URI)."""

    uri: str
    """As written. `parse_uri` takes it apart."""
    name: str = ""
    parameters: Parameters = {}

    @property
    def tag(self) -> str | None:
        """Which end of a dialogue this is, or None."""
        return self.parameters.get("tag")

    @property
    def user(self) -> str:
        """Who is meant. A URI without user part, or none at all, is the name itself (Fig. 9: <Terminal_ID>)."""
        scheme, _, after = self.uri.partition(":")
        rest = after if scheme.lower() in {"sip", "sips"} else self.uri
        return re.split("[;?]", rest, maxsplit=1)[0] if "@" not in rest else parse_uri(self.uri).user or ""

    def __str__(self) -> str:
        name = f'"{self.name}" ' if self.name else ""
        return f"{name}<{self.uri}>{format_parameters(self.parameters)}"


STAR: Final = Address("*")
"""`Contact: *`, all bindings at once (RFC 3261 §10.2.2)."""


class Message:
    """What requests and responses share: headers and a body."""

    def __init__(self, headers: Headers | None = None, body: bytes = b"") -> None:
        self.headers = Headers() if headers is None else headers
        self.body = body

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return self.headers.get(name)

    def fields(self) -> Iterator[tuple[str, str]]:
        """Yield every header with each of its values."""
        return ((name, value) for name in self.headers.keys() for value in self.headers.getlist(name))  # noqa: SIM118

    @property
    def call_id(self) -> str:
        """Call-ID (§20.8)."""
        return self._needed("Call-ID")

    @property
    def cseq(self) -> CSeq:
        """CSeq (§20.16)."""
        number, _, method = self._needed("CSeq").replace("\t", " ").partition(" ")
        return CSeq(parse_number(number, MAX_SEQUENCE, "CSeq"), method.strip())

    @property
    def vias(self) -> list[Via]:
        """All Via values, topmost first (§20.42)."""
        values = [part for line in self.headers.getlist("Via") for part in split(line, ",")]
        if not values or len(values) > MAX_VIAS:
            raise RemoteProtocolError("no Via, or too many", reason="via")
        return [via_module.parse(value) for value in values]

    @property
    def via(self) -> Via:
        """The topmost Via."""
        return self.vias[0]

    @property
    def from_(self) -> Address:
        """From (§20.20)."""
        return parse_address(self._needed("From"))

    @property
    def to(self) -> Address:
        """To (§20.39)."""
        return parse_address(self._needed("To"))

    @property
    def contacts(self) -> list[Address]:
        """All Contact values (§20.10); `[STAR]` for the asterisk."""
        values = [part for line in self.headers.getlist("Contact") for part in split(line, ",")]
        if "*" in values and len(values) > 1:
            raise RemoteProtocolError("Contact has an asterisk and an address", reason="contact")
        return [STAR if value == "*" else parse_address(value) for value in values]

    @property
    def expires(self) -> int | None:
        """Expires in seconds (§20.19); None when absent or malformed, which means the same (§10.2.1.1, §20)."""
        return parse_expires(self.header("Expires"))

    @property
    def content_length(self) -> int | None:
        """Content-Length in bytes (§20.14), or None."""
        value = self.header("Content-Length")
        return None if value is None else parse_number(value, 2**31 - 1, "Content-Length")

    @property
    def content_type(self) -> str:
        """The media type in lower case without its parameters, or "" (§20.15)."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    def tokens(self, name: str) -> list[str]:
        """Return the values of a comma-separated header (Require, Allow, Supported ...)."""
        return [part for line in self.headers.getlist(name) for part in split(line, ",") if part]

    def _needed(self, name: str) -> str:
        value = self.headers.get(name)
        if not value:
            raise RemoteProtocolError(f"there is no {name}", reason="header")
        return value

    def _start_line(self) -> str:
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        """Write the message with the Content-Length that its body has."""
        lines = [self._start_line()]
        lines += [f"{name}: {value}" for name, value in self.fields() if name.lower() != "content-length"]
        lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._start_line()}>"


class Request(Message):
    """A request. `uri` and `version` are as received."""

    def __init__(
        self, method: str, uri: str, headers: Headers | None = None, body: bytes = b"", version: str = "SIP/2.0"
    ) -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri
        self.version = version

    def _start_line(self) -> str:
        return f"{self.method} {self.uri} {self.version}"


class Response(Message):
    """A response. 1xx are provisional, all others final."""

    def __init__(self, status: int, phrase: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.phrase = phrase

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.status >= 200

    def _start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.phrase}"


def parse(data: bytes) -> Request | Response:
    """Read one whole message; the body is all that follows the empty line (sip/framing.py cut it)."""
    head, empty_line, body = data.partition(b"\r\n\r\n")
    if not empty_line or len(head) > MAX_HEAD_BYTES:
        raise RemoteProtocolError("no end of the headers, or not soon enough", reason="size")
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("the headers are not UTF-8", reason="encoding") from error
    first, *lines = text.split("\r\n")
    headers = _parse_headers(lines)
    if (match := _START_OF_RESPONSE.fullmatch(first)) is not None:
        return Response(int(match["status"]), match["phrase"], headers, body)
    if (match := _START_OF_REQUEST.fullmatch(first)) is not None and is_token(match["method"]):
        return Request(match["method"], match["uri"], headers, body, match["version"].upper())
    raise RemoteProtocolError(f"neither request nor response: {first[:80]!r}", reason="start-line")


def _parse_headers(lines: list[str]) -> Headers:
    headers = Headers()
    if len(lines) > MAX_HEADER_LINES:
        raise RemoteProtocolError("too many header lines", reason="size")
    unfolded: list[str] = []
    for line in lines:
        if "\r" in line or "\n" in line:
            raise RemoteProtocolError("a line end that is not CR LF", reason="syntax")
        if line[:1] in {" ", "\t"} and unfolded:
            unfolded[-1] += " " + line.strip(" \t")  # §7.3.1: a folded line
        else:
            unfolded.append(line)
    for line in unfolded:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not is_token(name):
            raise RemoteProtocolError(f"a header without a name: {line[:80]!r}", reason="header")
        headers.add(COMPACT_FORMS.get(name.lower(), name), value.strip(" \t"))
    return headers


def parse_address(text: str) -> Address:
    """Read a name-addr or addr-spec with the parameters of its header (§20.10)."""
    first, *parts = split(text, ";")
    name, bracket, rest = first.rpartition("<")
    uri, closed, after = rest.partition(">") if bracket else (first, ">", "")
    uri = uri.strip()
    if not bracket and "?" in uri:
        raise RemoteProtocolError("a URI with headers needs angle brackets", reason="address")  # §20
    if not uri or not closed or after.strip() or any(char in uri for char in ' \t"<>'):
        raise RemoteProtocolError(f"an address cannot be read: {text[:80]!r}", reason="address")
    return Address(uri, unquote(name.strip()), parse_parameters(parts))


def parse_uri(text: str) -> URI:
    """Read a sip or sips URI.

    A tel URI is refused before `sipmessage` sees it: its pattern takes half a minute for 15,000 digits.
    """
    scheme, _, rest = text.partition(":")
    if len(text) > MAX_URI_CHARACTERS or scheme.lower() not in {"sip", "sips"}:
        raise RemoteProtocolError(f"not a SIP URI: {text[:80]!r}", reason="uri")
    try:
        return URI.parse(f"{scheme.lower()}:{rest}")
    except (ValueError, TypeError) as error:  # TypeError: a parameter named "self"
        raise RemoteProtocolError(f"not a SIP URI: {text[:80]!r}", reason="uri") from error


def parse_expires(text: str | None) -> int | None:
    """Read delta-seconds; None for none and for nonsense, which the server replaces by its default (§10.2.1.1)."""
    try:
        return None if text is None else parse_number(text.strip(), MAX_EXPIRES, "expires")
    except RemoteProtocolError:
        return None


def new_branch(random: bytes) -> str:
    """Make a branch from at least 8 random bytes."""
    return MAGIC_COOKIE + random.hex()


def request(
    method: str,
    uri: str,
    *,
    via: Via,
    from_: Address,
    to: Address,
    call_id: str,
    sequence: int,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Request:
    """Build a request with the headers that each must have (§8.1.1)."""
    made = Request(method, uri, body=body)
    needed = [
        ("Via", str(via)), ("Max-Forwards", "70"), ("From", str(from_)), ("To", str(to)),
        ("Call-ID", call_id), ("CSeq", f"{sequence} {method}"),
    ]  # fmt: skip
    for name, value in [*needed, *headers]:
        made.headers.add(name, value)
    if content_type is not None:
        made.headers.add("Content-Type", content_type)
    return made


def response(
    to: Request,
    status: int,
    phrase: str | None = None,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """Build the answer to a request: Via, From, To with a tag, Call-ID and CSeq are its own (§8.2.6.2).

    Takes the request as it is, so that one with bad headers can be answered, too. The To tag is
    computed from the request: a retransmission gets the same one without any memory (§8.2.7).
    """
    made = Response(status, phrase or PHRASES.get(status, "Answer"), body=body)
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        for value in to.headers.getlist(name):
            made.headers.add(name, _with_tag(value, to) if name == "To" and status > 100 else value)
    for name, value in headers:
        made.headers.add(name, value)
    if content_type is not None:
        made.headers.add("Content-Type", content_type)
    return made


def _with_tag(to: str, answered: Request) -> str:
    if re.search(r";\s*tag\s*=", to, re.IGNORECASE):
        return to
    seed = "\0".join(answered.header(name) or "" for name in ("Via", "From", "Call-ID", "CSeq"))
    return f"{to};tag={hashlib.sha256(seed.encode()).hexdigest()[:16]}"


def stamp(received: Request, source: Endpoint) -> None:
    """Note in the topmost Via where a request came from (RFC 3261 §18.2.1, RFC 3581 §4)."""
    first, *others = received.vias
    received.headers.setlist("Via", [str(via_module.stamped(first, source)), *(str(other) for other in others)])
