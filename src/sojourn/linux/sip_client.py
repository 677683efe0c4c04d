"""Which client the host's SIP channel is made of, by configuration."""

from collections.abc import Callable

from sojourn.linux.sip_transport import TcpClient, TlsClient
from sojourn.linux.sip_udp import UdpClient
from sojourn.model import Endpoint

SipClient = TcpClient | UdpClient


def sip_client(
    transport: str,
    anchor: Endpoint,
    *,
    spki: bytes,
    source: str,
    interface: str | None,
    on_open: Callable[[Endpoint], None],
    on_message: Callable[[bytes], None],
    on_close: Callable[[str], None],
) -> SipClient:
    """Return the client for "tls", "tcp" or "udp"; only the first one makes sure who is there."""
    if transport == "tls":
        return TlsClient(
            anchor, spki=spki, source=source, interface=interface, on_open=on_open, on_message=on_message,
            on_close=on_close,
        )  # fmt: skip
    kind = UdpClient if transport == "udp" else TcpClient
    return kind(anchor, source=source, interface=interface, on_open=on_open, on_message=on_message, on_close=on_close)
