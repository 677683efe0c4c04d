"""A mobile host's signals as SIP: MESSAGE requests, and the inner datagrams that carry them (DESIGN §3.3)."""

from collections.abc import Callable

from sojourn.model import Endpoint
from sojourn.packet import ip
from sojourn.sip import message
from sojourn.sip.via import Via, host_text
from sojourn.upmt import signals
from sojourn.upmt.lease import Lease

SIGNAL_PORT = 5060
HOST_PORT = 5060


class SignalWriter:
    """Writes what one sender says: one Call-ID, rising sequence numbers."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._lease: Lease | None = None
        self._user = "host"
        self._call_id = random(8).hex()
        self._sequence = 0

    def lease(self, lease: Lease, user: str | None = None) -> None:
        """Take in the addresses that signals go between."""
        self._lease = lease
        self._user = user or self._user

    @property
    def can_write(self) -> bool:
        """Whether the addresses are known."""
        return self._lease is not None and bool(self._lease.inner_addresses)

    def request(self, body: bytes, target: str = "") -> message.Request:
        """Write a MESSAGE; `target` is the user part of its Request-URI, if it has one."""
        vipa, anchor = self._ends()
        host = host_text(anchor)
        uri = f"sip:{target}@{host}" if target else f"sip:{host}"
        self._sequence += 1
        return message.request(
            "MESSAGE",
            uri,
            via=Via("UDP", vipa, HOST_PORT, {"branch": message.new_branch(self._random(8)), "rport": None}),
            from_=message.Address(f"sip:{self._user}@{host}", parameters={"tag": self._call_id[:8]}),
            to=message.Address(uri),
            call_id=self._call_id,
            sequence=self._sequence,
            body=body,
            content_type=signals.CONTENT_TYPE,
        )

    def packet(self, data: bytes) -> bytes:
        """Return the inner packet that carries a request to the anchor."""
        vipa, anchor = self._ends()
        return ip.udp_packet(Endpoint(vipa, HOST_PORT), Endpoint(anchor, SIGNAL_PORT), data)

    def _ends(self) -> tuple[str, str]:
        assert self._lease is not None
        return self._lease.vipa, self._lease.inner_addresses[0]
