"""Via: the way an answer goes back (RFC 3261 §18.2, RFC 3581), and where TID travels (paper, Fig. 9).

Written here and not taken from `sipmessage`, which refuses a bare IPv6 address in `received`.
"""

import ipaddress
import re
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip.grammar import Parameters, format_parameters, parse_number, parse_parameters, split

MAGIC_COOKIE: Final = "z9hG4bK"
"""How a branch of RFC 3261 starts (§8.1.1.7)."""
SIP_PORT: Final = 5060
SIPS_PORT: Final = 5061
MAX_VIAS: Final = 16

_SENT = re.compile(
    r"SIP\s*/\s*(?P<version>[0-9]{1,2}\.[0-9]{1,2})\s*/\s*(?P<transport>[A-Za-z0-9\-.!%*_+`'~]+)\s+"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._]+)(?:\s*:\s*(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)


class Via(Struct, frozen=True):
    """One hop: protocol, sent-by and parameters."""

    transport: str
    host: str
    """A name or an address; IPv6 in brackets, as it stands in the message."""
    port: int | None = None
    parameters: Parameters = {}
    version: str = "2.0"
    """Kept, so that a request of another version can be answered (505)."""

    @property
    def branch(self) -> str | None:
        """The transaction's name, or None."""
        return self.parameters.get("branch")

    @property
    def tid(self) -> str | None:
        """The terminal that sent this (paper, §VII), or None."""
        return self.parameters.get("tid")

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        # The paper writes the parameter in capitals, and parameter names are case-insensitive.
        parameters = {"TID" if name == "tid" else name: value for name, value in self.parameters.items()}
        return f"SIP/{self.version}/{self.transport} {self.host}{port}{format_parameters(parameters)}"


def parse(text: str) -> Via:
    """Read one Via value."""
    first, *parts = split(text, ";")
    match = _SENT.fullmatch(first)
    if match is None:
        raise RemoteProtocolError(f"Via cannot be read: {text[:80]!r}", reason="via")
    port = match["port"]
    return Via(
        transport=match["transport"].upper(),
        host=match["host"],
        port=None if port is None else parse_number(port, 65535, "the port of Via"),
        parameters=parse_parameters(parts),
        version=match["version"],
    )


def make(transport: str, local: Endpoint, branch: str, tid: str | None = None) -> Via:
    """Build the Via of a request that leaves from `local`, asking for rport (RFC 3581 §3)."""
    parameters: Parameters = {"branch": branch, "rport": None}
    if tid is not None:
        parameters["tid"] = tid
    return Via(transport, host_text(local.address), local.port, parameters)


def host_text(address: str) -> str:
    """Write an address as SIP does: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def stamped(via: Via, source: Endpoint) -> Via:
    """Return the topmost Via with what the server saw (RFC 3261 §18.2.1, RFC 3581 §4)."""
    parameters = dict(via.parameters)
    if "rport" in parameters:
        parameters["rport"] = str(source.port)
        parameters["received"] = source.address
    elif not _same_host(via.host, source.address):
        parameters["received"] = source.address
    return replace(via, parameters=parameters)


def answer_to(via: Via, source: Endpoint) -> Endpoint:
    """Return where the answer to a datagram goes (RFC 3261 §18.2.2, RFC 3581 §4).

    Always back to the address it came from: `maddr` is ignored, or anyone could have our answers
    sent to a third party.
    """
    if "rport" in via.parameters:
        return source
    return Endpoint(source.address, via.port or SIP_PORT)


def _same_host(host: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")) == ipaddress.ip_address(address)
    except ValueError:
        return False
