"""Flows with peers in a data path: rows like all others, and what was sent last is sent again after a move."""

from types import SimpleNamespace
from typing import Any

from sojourn.datapath.memory import MemoryDataPath
from sojourn.datapath.peering import PEER_FLOWS_BURST
from sojourn.i3.node import RendezvousNode
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.ip import ip_header, packed, udp_packet
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt.commands import AddAssociation, Placed, RemoveAssociation, Report, Role, SetRules, Setup
from sojourn.upmt.events import FlowSeen
from sojourn.upmt.peer_commands import HOME, PEERS, CloseRendezvous, OpenRendezvous, PeerEntry, SetHome, UseRendezvous
from sojourn.upmt.peer_events import PeersTold, RendezvousMoved, RendezvousSilent, RendezvousWorks
from tests.i3.world import NODE, identity, seeded


class Net:
    """Two data paths and a node; every datagram arrives at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.node = RendezvousNode(bytes(32), {NODE})
        self.paths = {name: self._path(name, other) for name, other in (("a", "b"), ("b", "a"))}
        self.places: dict[Endpoint, tuple[str, str]] = {}
        self.homes = {name: identity(name).address for name in self.paths}

    def _path(self, name: str, other: str) -> MemoryDataPath:
        path = MemoryDataPath(lambda: self.now, random=seeded(name))
        path.on_rendezvous = lambda network, data, _node: self._to_node(name, network, data)
        theirs = identity(other)
        entry = PeerEntry(other, theirs.address, theirs.keys.signing, theirs.keys.exchange)
        home = SetHome(*_private(name), (NODE,), (entry,), wall_offset=1.7e9)
        path.submit([Setup(Role.HOST, "tun", 1280), home, AddAssociation(HOME, "", identity(name).address, ())])
        return path

    def up(self, name: str, network: str, address: str) -> None:
        self.places[Endpoint(address, 4000)] = (name, network)
        self.paths[name].submit([OpenRendezvous(network, network, Endpoint(address, 0)), UseRendezvous(network)])

    def down(self, name: str, network: str) -> None:
        self.places = {place: held for place, held in self.places.items() if held != (name, network)}
        self.paths[name].submit([CloseRendezvous(network)])

    def _to_node(self, name: str, network: str, data: bytes) -> None:
        source = next((place for place, held in self.places.items() if held == (name, network)), None)
        if source is None:
            return
        for reply, to in self.node.handle(data, (source.address, source.port), self.now):
            held = self.places.get(Endpoint(*to))
            if held is not None:
                self.paths[held[0]].forwarder.from_rendezvous(held[1], reply, NODE, self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            for path in self.paths.values():
                path.forwarder.tick(self.now)


def _private(name: str) -> tuple[bytes, bytes]:
    import hashlib

    return hashlib.sha256(f"sign {name}".encode()).digest(), hashlib.sha256(name.encode()).digest()


def talking() -> Net:
    net = Net()
    net.up("a", "wifi", "198.51.100.1")
    net.up("b", "wifi", "198.51.100.2")
    net.run(0.3)
    return net


def tcp(net: Net, sequence: int) -> bytes:
    segment = (5000).to_bytes(2) + (80).to_bytes(2) + sequence.to_bytes(4) + bytes(4) + b"\x50\x10" + bytes(6)
    return ip_header(packed(net.homes["a"]), packed(net.homes["b"]), 6, len(segment)) + segment


def test_a_flow_with_a_peer_has_a_row_at_both_ends_and_is_told() -> None:
    net = talking()
    packet = udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), b"hello")
    net.paths["a"].forwarder.from_inner(packet, net.now)
    net.run(0.3)
    assert net.paths["b"].delivered == [packet]
    for path in net.paths.values():
        (row,) = path.forwarder.paft.rows.values()
        assert (row.association, row.tunnel) == (HOME, PEERS)
        assert [event.tunnel for event in path.events if isinstance(event, FlowSeen)] == [PEERS]
    net.paths["a"].submit([Report()])
    told = next(event for event in net.paths["a"].events if isinstance(event, PeersTold))
    assert (told.network, told.peers[0].name, told.peers[0].met, told.peers[0].packets_out) == ("wifi", "b", True, 1)


def test_after_a_move_the_newest_segment_of_a_tcp_flow_is_sent_once_more_and_no_datagram() -> None:
    net = talking()
    forwarder = net.paths["a"].forwarder
    forwarder.from_inner(udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), b"once"), net.now)
    for sequence in (1, 2, 3):
        forwarder.from_inner(tcp(net, sequence), net.now)
    net.run(0.5)
    before = list(net.paths["b"].delivered)
    net.down("a", "wifi")
    net.up("a", "cell", "203.0.113.7")
    net.run(0.5)
    assert any(isinstance(event, RendezvousMoved) and event.network == "cell" for event in net.paths["a"].events)
    assert net.paths["b"].delivered[len(before) :] == [tcp(net, 3)]
    assert forwarder.totals["peer-resent"] == 1


def test_a_rule_may_block_a_flow_with_a_peer() -> None:
    net = talking()
    rule = Rule("no peers", Subject())
    net.paths["a"].submit([SetRules(HOME, (Placed(rule, None, block=True),))])
    net.paths["a"].forwarder.from_inner(
        udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), b"hello"), net.now
    )
    net.run(0.3)
    assert not net.paths["b"].delivered
    assert net.paths["a"].forwarder.refused["blocked"] == 1


def test_an_address_that_is_no_peers_is_refused_and_counted() -> None:
    net = talking()
    stray = udp_packet(Endpoint(net.homes["a"], 7), Endpoint("fd53:6f6a::1", 9), b"hello")
    net.paths["a"].forwarder.from_inner(stray, net.now)
    assert net.paths["a"].forwarder.refused["no-peer"] == 1
    assert not net.paths["a"].forwarder.paft.rows


def test_a_control_that_was_started_anew_is_told_how_each_network_stands() -> None:
    net = talking()
    path = net.paths["a"]
    path.submit([OpenRendezvous("wifi", "wifi", Endpoint("198.51.100.1", 0))])
    assert isinstance(path.events[-1], RendezvousWorks)
    net.places.clear()
    path.forwarder.from_inner(tcp(net, 1), net.now)
    net.run(3.0)
    assert any(isinstance(event, RendezvousSilent) for event in path.events)
    path.submit([OpenRendezvous("wifi", "wifi", Endpoint("198.51.100.1", 0))])
    assert isinstance(path.events[-1], RendezvousSilent)


def test_a_peer_begins_flows_within_a_limit_and_what_there_is_goes_on() -> None:
    net = talking()
    ends = [Endpoint(net.homes[name], 9) for name in ("a", "b")]
    for port in range(int(PEER_FLOWS_BURST) + 100):
        packet = udp_packet(Endpoint(ends[0].address, 1 + port), ends[1], b"x")
        net.paths["b"].forwarder._from_peer(packet, net.now)
    rows = net.paths["b"].forwarder.paft.rows
    assert len(rows) == PEER_FLOWS_BURST
    assert net.paths["b"].forwarder.refused["flow-rate"] == 100
    net.paths["b"].delivered.clear()
    net.paths["b"].forwarder._from_peer(udp_packet(Endpoint(ends[0].address, 1), ends[1], b"x"), net.now)
    assert len(net.paths["b"].delivered) == 1


def test_a_flow_waits_while_its_rule_says_so_and_goes_with_what_it_said_last() -> None:
    net = talking()
    path = net.paths["a"]
    rule = Rule("later", Subject())
    path.submit([SetRules(HOME, (Placed(rule, None),))])
    for text in (b"first", b"second"):
        path.forwarder.from_inner(udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), text), net.now)
    net.run(0.3)
    assert not net.paths["b"].delivered
    (row,) = path.forwarder.paft.rows.values()
    assert (row.tunnel, row.blocked, row.label) == (None, False, "later")
    path.submit([SetRules(HOME, (Placed(rule, PEERS),))])
    net.run(0.3)
    assert [packet[-6:] for packet in net.paths["b"].delivered] == [b"second"]
    assert row.tunnel == PEERS
    path.submit([SetRules(HOME, (Placed(rule, None, block=True),))])
    path.forwarder.from_inner(udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), b"third"), net.now)
    assert path.forwarder.refused["blocked"] == 1


def test_a_flow_may_have_a_trigger_of_its_own_which_ends_with_it() -> None:
    net = talking()
    forwarder = net.paths["a"].forwarder
    net.paths["a"].submit([SetRules(HOME, (Placed(Rule("own", Subject()), PEERS, own_trigger=True),))])
    forwarder.from_inner(udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), b"mine"), net.now)
    net.run(0.5)
    assert forwarder.roam is not None
    (peer,) = forwarder.roam.by_home.values()
    assert list(peer.flows.own) == [(17, 7, 9)]
    (key,) = forwarder.paft.rows
    forwarder.end_row(key)
    net.run(0.1)
    assert not peer.flows.own


def test_a_host_that_has_no_peers_any_more_serves_none_and_forgets_their_keys() -> None:
    net = talking()
    path = net.paths["a"]
    gone: list[TunnelId] = []
    core: Any = SimpleNamespace(gone=gone.append, moved=lambda *_: None, follow=lambda *_: None)
    path.forwarder.peer_core = core
    packet = udp_packet(Endpoint(net.homes["a"], 7), Endpoint(net.homes["b"], 9), b"hello")
    path.forwarder.from_inner(packet, net.now)
    net.run(0.3)
    net.paths["b"].delivered.clear()
    assert path.forwarder.roam is not None
    sessions = path.forwarder.roam.sessions_now()
    path.submit([RemoveAssociation(HOME)])
    net.run(0.1)
    assert sessions == gone != []
    assert path.forwarder.roam is None
    assert not path.forwarder.paft.rows
    path.forwarder.from_inner(packet, net.now)
    net.run(0.3)
    assert not net.paths["b"].delivered
    assert path.forwarder.refused["inner-source"] == 1
    assert path.forwarder.state(net.now).associations == ()
