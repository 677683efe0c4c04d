"""Plain tunnels with the real daemons: the paper's own form, IP in UDP, set up and signed by SIP in the very tunnel.

mh --- nat0 160.80.100.1 (wifi) ------ core --- an 45.0.0.1 --- ch 86.0.0.1
  \\-- nat1 65.0.0.1 (cellular) ----/
"""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from sojourn.api.client import Client
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import CELLULAR, WIFI, Lab, Topology
from sojourn.upmt.plain_anchor import REMEDY
from tests.net.capture import Capture
from tests.net.conftest import MakeLab
from tests.net.exchange import Exchanged, exchange
from tests.net.standing import Sockets, eventually
from tests.net.wire import address_of, payload_of, protocol_of, udp4

pytestmark = pytest.mark.net

AN, CH = "45.0.0.1", "86.0.0.1"
TUNNELS = (AN, 1800)
UDP_IN_IPV4 = 20 + 8


def configure(lab: Lab, address: str | None = None) -> Daemons:
    """Configure both daemons for plain tunnels."""
    daemons = Daemons(lab)
    daemons.set_up(address=address)
    daemons.configure("an", plain_tunnels="true")
    daemons.configure("mh", tunnels='"plain"')
    return daemons


@pytest.fixture(params=["python", "kernel"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test with the engine alone, and with the kernel path."""
    monkeypatch.setenv("SOJOURN_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def configured(lab: Lab) -> Daemons:
    """Return daemons that are configured for plain tunnels, both of them, and not started."""
    return configure(lab)


@pytest.fixture
def plain(configured: Daemons) -> Daemons:
    """Return an anchor and a mobile host with plain tunnels that work."""
    configured.start()
    return configured


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    yield made
    made.close()


def anchor_status(daemons: Daemons) -> dict[str, Any]:
    """Return what the anchor says of itself."""
    answer = Client(str(daemons.anchor_socket)).call("status")
    assert isinstance(answer, dict)
    return answer


def outer_addresses(daemons: Daemons) -> dict[str, str]:
    """Return where the anchor believes each tunnel's host to be."""
    ((host),) = anchor_status(daemons)["hosts"]
    return dict(host["tunnels"])


def ping(daemons: Daemons, *, count: int = 5) -> bool:
    """Say whether the correspondent answers every ping."""
    said = daemons.lab.run("mh", "ping", "-q", "-c", str(count), "-i", "0.05", "-W", "2", CH, check=False)
    return f" {count} received" in said


def inside(outer: bytes) -> bytes:
    """Return what a UDP packet carries."""
    return payload_of(outer)[8:]


def test_ping_passes_bare_and_a_packet_is_28_bytes_longer_on_the_wire(plain: Daemons) -> None:
    lab = plain.lab
    with (
        Capture(lab.namespace("mh"), "sojourn0", framed=False) as tun, Capture(lab.namespace("mh"), "wifi") as wifi,
        Capture(lab.namespace("ch"), "eth0") as ch,
    ):  # fmt: skip
        lab.run("mh", "ping", "-q", "-c", "3", "-i", "0.05", "-s", "900", CH)
        inner = [packet for packet in tun.read() if protocol_of(packet) == socket.IPPROTO_ICMP]
        outer = [packet for packet in wifi.read(0.1) if protocol_of(packet) == socket.IPPROTO_UDP]
        seen = [packet for packet in ch.read(0.1) if protocol_of(packet) == socket.IPPROTO_ICMP]
    assert len(seen) == 6
    assert len(inner) >= 4, "what programs at tc take out of the device is not shown to its taps"
    carried = {inside(packet): len(packet) for packet in outer}
    assert {carried[packet] - len(packet) for packet in inner} == {UDP_IN_IPV4}
    assert sum(len(packet) == UDP_IN_IPV4 + 20 + 8 + 900 for packet in outer) == 6
    assert {address_of(packet, source=True) for packet in seen} == {AN, CH}


def test_a_tcp_transfer_survives_handovers_to_and_fro(plain: Daemons, sockets: Sockets) -> None:
    results: list[Exchanged] = []
    for link in plain.lab.links.values():
        link.set_rate(20.0)
    thread = threading.Thread(target=lambda: results.append(exchange(sockets, CH, 7000)))
    with Capture(plain.lab.namespace("mh"), "wifi") as wifi, Capture(plain.lab.namespace("mh"), "cellular") as cellular:
        thread.start()
        for number in range(4):
            wifi.read(0.2)
            plain.hand_over("wifi" if number % 2 else "cellular")
            cellular.read(0.2)
        thread.join(60.0)
        used = [sum(inside(packet)[9:10] == b"\x06" for packet in tap.packets) for tap in (wifi, cellular)]
    assert results == [Exchanged(AN, True)]
    assert min(used) > 50, "segments passed on both networks"
    assert plain.status()["pending_handovers"] == 0


def test_ipv6_outside_carries_both_inside(make_lab: MakeLab, prefix: str) -> None:
    access = tuple(replace(network, ipv4=False, ipv6=True) for network in (WIFI, CELLULAR))
    lab = make_lab(Topology(prefix=prefix, access=access, ipv6=True))
    daemons = configure(lab, address=lab.topology.anchor.address6)
    daemons.start()
    for network in ("wifi-6", "cellular-6"):
        daemons.hand_over(network)
        for address in (CH, lab.topology.correspondent.address6):
            assert " 3 received" in lab.run("mh", "ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", address)
    assert all(address.startswith("2001:db8:1") for address in outer_addresses(daemons).values())


def test_a_pulled_link_moves_everything(plain: Daemons) -> None:
    assert ping(plain)
    plain.lab.links["wifi"].leave()
    eventually("on cellular", lambda: ping(plain, count=1), 3.0)
    assert ping(plain)


def test_a_nat_that_rebinds_is_healed_by_a_new_set_up(plain: Daemons) -> None:
    plain.lab.links["cellular"].leave()
    assert ping(plain)
    before = outer_addresses(plain)
    plain.lab.links["wifi"].rebind()
    eventually("a new outer address is proved", lambda: ping(plain, count=1) and outer_addresses(plain) != before, 5.0)
    assert ping(plain)
    assert anchor_status(plain)["refused"]["no-tunnel"] > 0, "until then nothing was let in"


def test_either_data_path_may_be_killed(plain: Daemons) -> None:
    for role in ("mh", "an"):
        plain.kill_data_path(role)
        eventually(f"the data path of {role} is back", lambda: ping(plain, count=1), 5.0)
    assert ping(plain)


def test_forged_packets_from_another_address_change_nothing(plain: Daemons, sockets: Sockets) -> None:
    vipa = plain.status()["vipa"]
    forger, victim = sockets.at("ch", port=4444), sockets.at("ch", port=9)
    with Capture(plain.lab.namespace("an"), "eth0") as wire:
        plain.lab.links["cellular"].change_address("10.10.10.77")  # a set-up to listen to
        plain.wait_until("up again", lambda status: all(row["state"] == "up" for row in status["networks"]), 10.0)
        heard = [inside(packet) for packet in wire.read() if protocol_of(packet) == socket.IPPROTO_UDP]
    signed = next(packet for packet in heard if b"TunnelRequest" in packet and b"Authorization: Digest" in packet)
    before, refused = outer_addresses(plain), anchor_status(plain)["refused"].get("no-tunnel", 0)
    rows = plain.call("flows")

    forger.sendto(udp4((vipa, 2000), (CH, 9), b"forged"), TUNNELS)
    forger.sendto(struct.pack("!BBI", 5, 0, 0), TUNNELS)  # a Close frame
    forger.sendto(udp4((vipa, 5060), ("10.201.0.1", 53), b"no signal"), TUNNELS)
    forger.sendto(signed, TUNNELS)
    answer = forger.recv(4096)
    assert re.search(rb"SIP/2\.0 401 .*stale=true", answer, re.DOTALL), "it has to prove its own address"
    assert len(answer) <= 3 * len(signed)
    victim.settimeout(0.5)
    with pytest.raises(TimeoutError):
        victim.recv(100)

    assert outer_addresses(plain) == before
    assert plain.call("flows") == rows
    assert anchor_status(plain)["refused"]["no-tunnel"] >= refused + 2
    assert ping(plain)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_association_in_the_papers_form_brings_plain_tunnels_and_no_secret(configured: Daemons, transport: str) -> None:
    configured.configure("an", sip_plain="true")
    configured.append("mh", f'\n[signalling]\ntransport = "{transport}"\n')
    lab = configured.lab
    with Capture(lab.namespace("core"), "an") as core:
        configured.start()
        assert ping(configured)
        configured.hand_over("cellular")
        assert ping(configured)
        eventually("confirmed", lambda: configured.status()["pending_handovers"] == 0)
        packets = core.read()
    sip = [packet for packet in packets if 5060 in struct.unpack("!HH", payload_of(packet)[:4])]
    assert {protocol_of(packet) for packet in sip} == {socket.IPPROTO_UDP if transport == "udp" else socket.IPPROTO_TCP}
    said = b"".join(sip)
    assert f"Via: SIP/2.0/{transport.upper()} ".encode() in said
    assert b"VIpAddr: 10.201.0." in said
    assert b'"secret":{' not in said
    assert b'"credential":"' not in said
    assert not [packet for packet in packets if 5061 in struct.unpack("!HH", payload_of(packet)[:4])]
    with Capture(lab.namespace("core"), "an") as core:
        assert configured.host is not None
        configured.host.stop(10.0)
        eventually("it has left", lambda: not outer_addresses(configured), 5.0)
        assert b"Expires: 0" in b"".join(core.read(0.1))


@pytest.mark.parametrize("sided", ["mh", "an"])
def test_one_side_alone_gets_no_plain_tunnel(lab: Lab, sided: str) -> None:
    daemons = Daemons(lab)
    daemons.set_up()
    if sided == "mh":
        daemons.configure("mh", tunnels='"plain"')
        daemons.start_anchor()
        daemons.start_host()
        why = f"This anchor has no plain tunnels: {REMEDY}"
        daemons.wait_until("refused", lambda status: status["reason"] == why, 10.0)
        assert daemons.status()["state"] == "offline"
        return
    daemons.configure("an", plain_tunnels="true")
    daemons.start()
    assert ping(daemons)
    with Capture(lab.namespace("mh"), "wifi") as wifi:
        assert ping(daemons)
        outer = [packet for packet in wifi.read(0.1) if protocol_of(packet) == socket.IPPROTO_UDP]
    assert outer
    assert all(inside(packet)[0] & 0x80 for packet in outer), "sealed, every one"


def test_a_network_that_was_dead_while_its_nat_forgot_works_again(plain: Daemons) -> None:
    plain.lab.links["cellular"].leave()
    assert ping(plain)
    plain.lab.links["wifi"].set_silent(True)
    eventually("silent", lambda: plain.network_states()["wifi"] != "up" or not ping(plain, count=1), 5.0)
    time.sleep(2.0)
    plain.lab.links["wifi"].forget_mappings()
    plain.lab.links["wifi"].set_silent(False)
    eventually("back", lambda: ping(plain, count=1), 5.0)
