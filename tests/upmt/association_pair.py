"""The host's association and the anchor's own registrar, on a wire of two lists."""

from collections.abc import Callable

from msgspec.structs import replace

from sojourn.model import Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_server import DigestServer, make_verifier
from sojourn.sip.message import Request, parse
from sojourn.sip.registrar import Accept, Registrar, Subscriber
from sojourn.sip.server import Incoming, Send, SipServer
from sojourn.upmt import lease as lease_module
from sojourn.upmt.association import (
    AssociationClient,
    AssociationCommand,
    AssociationSettings,
    ChannelOpened,
    SendSip,
    SipReceived,
)
from sojourn.upmt.lease import Lease

LOCAL, OTHER = Endpoint("192.168.100.25", 40000), Endpoint("10.10.10.25", 41000)
SOURCE = Endpoint("160.80.100.1", 33000)
SETTINGS = AssociationSettings("alice", "45.0.0.1", "laptop", "token")
LEASE = Lease(
    "1.2.3.4", None, 600.0, Secret(1, b"s" * 32, 4096), (TunnelId(7),), (Endpoint("45.0.0.1", 1800),), ("1.2.3.1",)
)


def fixed(seed: int = 0) -> Callable[[int], bytes]:
    """Return random bytes that are the same in every run."""
    state = [seed]

    def draw(n: int) -> bytes:
        state[0] += 1
        return (state[0] * 2654435761 % 2**64).to_bytes(8).rjust(max(n, 8), b"\x55")[-n:]

    return draw


class Anchor:
    """A registrar with one subscriber, who is lent 1.2.3.4."""

    def __init__(self) -> None:
        self.server = SipServer()
        self.registrar = Registrar(DigestServer("sojourn", b"k" * 32))
        one_time = make_verifier("alice", "sojourn", "token", [Algorithm.SHA256])
        self.subscriber = Subscriber("alice", one_time)
        self.accepted: list[Accept] = []

    def answer(self, data: bytes, now: float, source: Endpoint = SOURCE) -> bytes | None:
        """Take in what a host sent and return what it gets."""
        read = parse(data)
        assert isinstance(read, Request)
        incoming = self.server.received(read, 1, source, True, now)
        if not isinstance(incoming, Incoming):
            return incoming.data if isinstance(incoming, Send) else None
        decision = self.registrar.handle_register(incoming.request, source, now, {"alice": self.subscriber})
        if not isinstance(decision, Accept):
            return self.server.answer(incoming, decision.response, remember=decision.remember).data
        self.accepted.append(decision)
        own = make_verifier("alice", "sojourn", "own" * 8, [Algorithm.SHA256])
        self.subscriber = replace(
            self.subscriber,
            own=own,
            one_time=self.subscriber.one_time if decision.first else None,
            tid=decision.tid,
            binding=decision.binding,
        )
        lent = replace(LEASE, expires=float(decision.expires))
        body = lease_module.encode(lent, "own" * 8 if decision.first else None) if decision.expires else b""
        return self.server.answer(incoming, decision.answer("1.2.3.4" if decision.expires else None, None, body)).data


class Pair:
    """A host's association and its anchor."""

    def __init__(self, settings: AssociationSettings = SETTINGS, anchor: Anchor | None = None) -> None:
        self.anchor = anchor or Anchor()
        self.host = AssociationClient(settings, fixed())
        self.sent: list[bytes] = []
        self.source = SOURCE

    def carry(self, commands: list[AssociationCommand], now: float) -> list[AssociationCommand]:
        """Carry what is sent there and back until nothing is; return what else was ordered."""
        others: list[AssociationCommand] = []
        while commands:
            command, *commands = commands
            if not isinstance(command, SendSip):
                others.append(command)
                continue
            self.sent.append(command.data)
            answer = self.anchor.answer(command.data, now, self.source)
            if answer is not None:
                commands += self.host.handle(SipReceived(command.channel, answer), now)
        return others

    def open(self, now: float = 0, channel: int = 1, reliable: bool = True) -> list[AssociationCommand]:
        """Open a channel and carry what follows."""
        return self.carry(self.host.handle(ChannelOpened(channel, LOCAL, reliable), now), now)


def registers(sent: list[bytes]) -> list[Request]:
    """Read what was sent."""
    return [read for data in sent if isinstance(read := parse(data), Request)]
