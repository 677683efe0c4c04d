"""What a data path tells control about peers and the networks to them: past facts (see events.py)."""

from msgspec import Struct

from sojourn.packet.path_mtu import MIN_INNER_MTU


class RendezvousWorks(Struct, frozen=True, tag=True):
    """A rendezvous node answers over this network; `again`: after it was silent."""

    network: str
    rtt: float
    again: bool = False


class RendezvousSilent(Struct, frozen=True, tag=True):
    """A network over which a node answered has stopped to."""

    network: str
    after: float


class RendezvousBlocked(Struct, frozen=True, tag=True):
    """No node answers over this network, or it refuses us."""

    network: str
    why: str


class RendezvousMoved(Struct, frozen=True, tag=True):
    """Peers reach this host over another network now."""

    network: str
    came_from: str | None
    seconds: float
    soft: bool


class RendezvousStayed(Struct, frozen=True, tag=True):
    """The move to this network did not succeed: the one before serves."""

    network: str


class PeerChanged(Struct, frozen=True, tag=True):
    """Something became known of a peer: met, does not answer, not there."""

    home: str
    what: str


class PeerState(Struct, frozen=True):
    """What is known of one peer."""

    name: str
    home: str
    configured: bool
    met: bool
    """There are keys now."""
    private: bool
    """Its private identifier is known: packets no longer go to its public one."""
    problem: str
    heard: float | None
    """Seconds since something authentic came."""
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    duplicates: int
    direct: str = "off"
    """off: not allowed here; on; no: `direct_why` says why packets go by way of a node."""
    direct_why: str = ""
    direct_network: str | None = None
    direct_remote: str = ""
    direct_rtt: float | None = None
    mtu: int = MIN_INNER_MTU
    """The largest packet that the way to it carries now."""


class PeersTold(Struct, frozen=True, tag=True):
    """The answer to `Report`, where there are peers."""

    network: str | None
    """What is sent over."""
    node: str
    rtt: float | None
    """To the node."""
    peers: tuple[PeerState, ...]
    refused: dict[str, int] = {}


PeerEvent = (
    RendezvousWorks | RendezvousSilent | RendezvousBlocked | RendezvousMoved | RendezvousStayed
    | PeerChanged | PeersTold
)  # fmt: skip
