"""Whether the answer to a probe came from where it was asked, or from a captive portal.

The probe is one HTTP GET (RFC 9110) without encryption: what a portal answers in another's name.
"""

import re
from enum import StrEnum
from typing import Final
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from sojourn.control.config import PortalConfig
from sojourn.errors import RemoteProtocolError

MAX_ANSWER: Final = 16 * 1024
"""Bytes of an answer that are looked at."""
MAX_URL: Final = 2000
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_LOCATION = re.compile(rb"^location:[ \t]*([!-~]+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
NETWORK_AUTHENTICATION_REQUIRED: Final = 511
"""RFC 6585 §6."""


class Verdict(StrEnum):
    """What a probe found."""

    OPEN = "open"
    CAPTIVE = "captive"
    UNKNOWN = "unknown"
    """No answer, or one that says nothing."""


class Target(Struct, frozen=True):
    """Where a probe goes."""

    host: str
    port: int
    path: str

    @property
    def request(self) -> bytes:
        """What is sent."""
        at = f"[{self.host}]" if ":" in self.host else self.host
        where = at if self.port == 80 else f"{at}:{self.port}"
        head = f"GET {self.path} HTTP/1.1\r\nHost: {where}\r\nUser-Agent: sojourn\r\nAccept: */*\r\n"
        return f"{head}Cache-Control: no-cache\r\nConnection: close\r\n\r\n".encode("ascii", "replace")


class Answer(Struct, frozen=True):
    """The part of an HTTP answer that counts."""

    status: int
    location: str | None
    body: bytes


class Finding(Struct, frozen=True):
    """A verdict, and where the portal is, if it said so."""

    verdict: Verdict
    portal: str | None = None


def target(url: str) -> Target | None:
    """Split an http URL; None for one that cannot be asked."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None
    if parts.scheme != "http" or not parts.hostname:
        return None
    return Target(parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def read(data: bytes) -> Answer:
    """Read what came, whole or cut off. Raises RemoteProtocolError only."""
    status = _STATUS.match(data)
    if status is None:
        raise RemoteProtocolError("not an HTTP answer")
    head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    location = _LOCATION.search(head)
    where = location.group(1).decode("ascii") if location is not None else None
    return Answer(int(status.group(1)), where if where is not None and len(where) <= MAX_URL else None, body)


def judge(answer: Answer, probe: PortalConfig) -> Finding:
    """Compare an answer with the one that the probe's true server gives."""
    status, _, word = probe.expect.partition(" ")
    if answer.status == int(status) and word.encode() in answer.body:
        return Finding(Verdict.OPEN)
    if 300 <= answer.status < 400:
        portal = _absolute(probe.url, answer.location)
        # The true server itself may come to prefer https. A portal in its place would not: it lacks the certificate.
        ours = portal is not None and portal.rstrip("/") == probe.url.replace("http:", "https:", 1).rstrip("/")
        return Finding(Verdict.OPEN) if ours else Finding(Verdict.CAPTIVE, portal)
    if 200 <= answer.status < 300 or answer.status == NETWORK_AUTHENTICATION_REQUIRED:
        return Finding(Verdict.CAPTIVE)
    return Finding(Verdict.UNKNOWN)


def _absolute(url: str, location: str | None) -> str | None:
    """Return the redirection's target, if it is one that a browser may be sent to."""
    if location is None:
        return None
    try:
        absolute = urljoin(url, location)
        parts = urlsplit(absolute)
        return absolute if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None
