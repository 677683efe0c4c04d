"""What a data path tells of a peer."""

from sojourn.i3.peer import Peer
from sojourn.i3.roam_paths import network_of
from sojourn.upmt.peer_events import PeerState


def state_of(peer: Peer, now: float) -> PeerState:
    """Return how it stands with a peer."""
    agent = peer.agent
    pair = agent.selected if agent is not None else None
    direct, why = ("on", "") if pair is not None else ("no", agent.why) if agent is not None else ("off", "")
    if agent is None and peer.direct:
        direct, why = "no", "not met yet"
    return PeerState(
        peer.name, peer.home, peer.configured, peer.usable(now) is not None, peer.identifier is not None,
        peer.problem, None if peer.heard is None else now - peer.heard, peer.packets_in, peer.packets_out,
        peer.bytes_in, peer.bytes_out, peer.duplicates, direct, why, network_of(pair.path) if pair else None,
        f"{pair.remote.address} port {pair.remote.port}" if pair else "", pair.rtt.srtt if pair else None, peer.room(),
    )  # fmt: skip
