"""Plain tunnels at the anchor: who may open one, and the proof that every signal in one needs (DESIGN §3.2, §3.3).

    MESSAGE from an address without a tunnel --no or stale digest--> 401, the nonce bound to that address and port
                                             --auth-int proved, TunnelRequest first--> OpenTunnel there, 200
    MESSAGE in a plain tunnel                --the same, without TunnelRequest--> carried out, 200

Whoever answers a challenge has the host's credential and is where the challenge went: that is the proof of the
address. Each 200 carries Authentication-Info over its body, so that a host knows its anchor. Nothing is
kept for strangers, and they get no more than three times the bytes they sent.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import ip
from sojourn.sip import message
from sojourn.sip.digest import Qop
from sojourn.sip.digest_server import DigestServer, Failure, Proved
from sojourn.sip.registrar import Refuse
from sojourn.sip.registrar import Subscriber as Candidate
from sojourn.sip.rules import refuse
from sojourn.sip.server import Incoming
from sojourn.upmt import signals
from sojourn.upmt.commands import OpenTunnel, SendInner, SendOutside
from sojourn.upmt.constants import AMPLIFICATION
from sojourn.upmt.records import Subscriber

NONCE_LIFE: Final = 3600.0
"""Seconds for which a host may sign with one nonce: a handover then costs no challenge."""
SIGNAL_PORT: Final = 5060
REMEDY: Final = "set plain_tunnels = true in anchor.toml, or tunnels = 'sealed' in host.toml"
"""In TOML's other quotes: a SIP Warning stands between the usual ones."""


class Way(Struct, frozen=True):
    """How the answer to a signal inside goes back."""

    tunnel: TunnelId | None
    """None: outside of any tunnel, to `outer`."""
    outer: Endpoint | None
    vipa: Endpoint
    anchor: Endpoint
    received_bytes: int
    """Of the packet to be answered."""

    def carry(self, data: bytes) -> list[SendInner | SendOutside]:
        """Wrap an answer; nothing if a stranger would get too much."""
        packet = ip.udp_packet(Endpoint(self.anchor.address, SIGNAL_PORT), self.vipa, data)
        if self.tunnel is not None:
            return [SendInner(self.tunnel, packet)]
        if self.outer is None or len(packet) > AMPLIFICATION * self.received_bytes:
            return []
        return [SendOutside(self.outer, packet)]


class Asked(Struct, frozen=True):
    """A signal that is being carried out."""

    incoming: Incoming
    way: Way | None = None
    """None: it came on a connection."""
    proof: Proved | None = None
    """What its sender proved with it, where nothing else does."""


class Admitted(Struct, frozen=True):
    """A proved signal: the tunnel it is now in, and the order that opens that tunnel if it is a new one."""

    proof: Proved
    tunnel: TunnelId
    order: OpenTunnel | None


def is_plain(subscriber: Subscriber) -> bool:
    """Say whether an association was made without a secret: it has plain tunnels only."""
    return not any(secret.key for secret in subscriber.secrets)


def proved(response: message.Response, proof: Proved | None) -> message.Response:
    """Put the anchor's own proof into an answer (RFC 7616 §3.5), where one is owed."""
    if proof is not None:
        response.headers.set("Authentication-Info", str(proof.info(response.body)))
    return response


class PlainAnchor:
    """Checks signals that come in no sealed tunnel."""

    def __init__(self, realm: str, random: Callable[[int], bytes], allowed: bool) -> None:
        """Start with what anchor.toml says (plain_tunnels) as `allowed`; it may change."""
        self.allowed = allowed
        self._realm = realm
        self._random = random
        self._made: DigestServer | None = None

    @property
    def _digest(self) -> DigestServer:
        if self._made is None:
            self._made = DigestServer(self._realm, self._random(32), qops=(Qop.AUTH_INT,), nonce_life=NONCE_LIFE)
        return self._made

    def check(
        self, request: message.Request, source: Endpoint, candidate: Candidate | None, now: float
    ) -> Proved | Refuse:
        """Say whether a request from an outer address is `candidate`'s, or what it is answered."""
        own = candidate.own if candidate is not None else None
        user = candidate.user if candidate is not None else None
        place = f"{source.address} {source.port}"
        try:
            found = self._digest.verify(
                request, place, now, lambda name: [own] if own is not None and name == user else []
            )
        except RemoteProtocolError as error:
            return Refuse(refuse(request, 400, f"Bad Request: {str(error).partition(':')[0]}"), "malformed")
        if isinstance(found, Proved):
            return found
        if found is Failure.WRONG:
            return Refuse(refuse(request, 403, "Unknown user or wrong secret"), "secret")
        stale = found is Failure.STALE
        headers = [("WWW-Authenticate", str(one)) for one in self._digest.challenges(place, now, stale)]
        return Refuse(message.response(request, 401, headers=headers), "stale" if stale else "challenge")

    def admit(
        self,
        request: message.Request,
        came: tuple[TunnelId | None, Endpoint],
        candidate: Candidate | None,
        mine: tuple[AssociationId, Sequence[TunnelId]],
        now: float,
    ) -> Admitted | Refuse:
        """Check a signal that came in a plain tunnel, or in none yet, from an outer address (`came`).

        `mine`: the association and its tunnels.
        """
        tunnel, source = came
        proof = self.check(request, source, candidate, now)
        if isinstance(proof, Refuse):
            return proof
        wanted = _wanted(request.body)
        if wanted is not None and wanted not in mine[1]:
            return Refuse(refuse(request, 403, "Not a tunnel of this host"), "tunnel")
        if wanted is None or wanted == tunnel:
            if tunnel is None:
                return Refuse(refuse(request, 403, "No tunnel from this address: ask for one first"), "tunnel")
            return Admitted(proof, tunnel, None)
        order = OpenTunnel(mine[0], wanted, "", Endpoint("", 0), source, sealed=False)
        return Admitted(proof, wanted, order)


def _wanted(body: bytes) -> TunnelId | None:
    """Return the tunnel that the first signal of a message asks for."""
    try:
        first = signals.decode(body)[:1]
    except RemoteProtocolError:  # it is answered for that later
        return None
    match first:
        case [signals.TunnelRequest(tunnel_id=int(number))]:
            return TunnelId(number)
    return None
