r"""MSOCKS between real processes: a client with two networks, the proxy, and a correspondent that checks every byte.

mh (sojourn socks) --- nat0 --- core --- an (sojourn anchor --only socks)
                   \-- nat1 --/      \-- ch (checks every byte)
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.lab import namespaces
from sojourn.lab.links import AccessLink
from sojourn.lab.topology import Topology
from sojourn.msocks.socks5 import Address, Code
from tests.net.socks_lab import LOCAL_PORT, PEER_PORT, Dialled, Peer, SocksLab
from tests.net.standing import eventually, own_prefix, standing

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix())) as lab:
        socks = SocksLab(lab)
        socks.set_up('anonymous = ["86.0.0.0/24"]\nhold = 600.0')
        socks.peer = Peer(lab)
        socks.start_proxy()
        socks.start_client()
        try:
            yield socks
        finally:
            socks.peer.close()


@pytest.fixture
def peer(place: SocksLab) -> Iterator[Address]:
    """Return where the correspondent is; all that a test has opened is gone afterwards, at both ends."""
    assert place.peer is not None
    place.peer.errors.clear()
    before = descriptors(place)
    yield Address(place.lab.topology.correspondent.address, PEER_PORT)
    eventually("no session is left", lambda: not place.proxy_status()["sessions"] and not place.status()["sessions"])
    eventually("no descriptor is left", lambda: descriptors(place) <= before + 2, 10.0)


def descriptors(place: SocksLab) -> int:
    assert place.proxy is not None
    assert place.client is not None
    return sum(len(os.listdir(f"/proc/{child.pid}/fd")) for child in (place.proxy, place.client)) - place.lingering()


def finished(place: SocksLab, *dialled: Dialled) -> None:
    for one in dialled:
        assert one.done.wait(90.0), "no end"
        assert one.error is None, one.error
    assert place.peer is not None
    assert not place.peer.errors


def names(place: SocksLab) -> list[str]:
    return sorted(place.up())


def test_bytes_pass_both_ways_and_the_stream_ends_cleanly(place: SocksLab, peer: Address) -> None:
    one = place.connect(peer)
    one.exchange(1, 3_000_000)
    finished(place, one)


def test_sessions_go_on_at_the_exact_byte_through_planned_moves(place: SocksLab, peer: Address) -> None:
    several = [place.connect(peer) for _ in range(4)]
    for number, one in enumerate(several):
        one.exchange(10 * number, 4_000_000, 0.02)
    moves = 0
    while not all(one.done.is_set() for one in several):
        if len(up := names(place)) == 2:
            place.move(up[moves % 2])
            moves += 1
        time.sleep(0.15)
    finished(place, *several)
    assert moves >= 4


def test_a_network_that_dies_silently_is_left_within_a_moment(place: SocksLab, peer: Address) -> None:
    one = place.connect(peer)
    one.exchange(50, 6_000_000, 0.03)
    time.sleep(0.5)
    (session,) = place.status()["sessions"]
    link = link_of(place, session["network"])
    link.set_silent(True)
    died = time.monotonic()
    try:
        eventually("it has moved", lambda: place.status()["sessions"][0]["network"] != session["network"], 10.0)
        moved = time.monotonic() - died
        finished(place, one)
    finally:
        link.set_silent(False)
    assert moved < 1.0, "bench/socks_silence.py measures it: 300 ms and 2 round trips is the limit"
    eventually("the network is back", lambda: len(place.up()) == 2)


def test_a_cable_that_is_pulled_moves_its_sessions(place: SocksLab, peer: Address) -> None:
    one = place.connect(peer)
    one.exchange(60, 6_000_000, 0.03)
    time.sleep(0.4)
    (session,) = place.status()["sessions"]
    link = link_of(place, session["network"])
    link.set_carrier(False)
    try:
        finished(place, one)
    finally:
        link.arrive()
    eventually("the network is back", lambda: len(place.up()) == 2)


def test_a_nat_that_forgets_and_another_address_are_survived(place: SocksLab, peer: Address) -> None:
    one = place.connect(peer)
    one.exchange(65, 6_000_000, 0.04)
    time.sleep(0.4)
    network = place.status()["sessions"][0]["network"]
    link_of(place, network).rebind()
    time.sleep(1.0)
    (session,) = place.status()["sessions"]
    link = link_of(place, session["network"])
    link.change_address(link.address.rpartition(".")[0] + ".77")
    finished(place, one)
    eventually("both networks work", lambda: len(place.up()) == 2)


def test_a_killed_proxy_loses_and_doubles_nothing(place: SocksLab, peer: Address) -> None:
    several = [place.connect(peer) for _ in range(3)]
    for number, one in enumerate(several):
        one.exchange(70 + number, 9_000_000, 0.03)
    for move in (True, False):
        time.sleep(0.3)
        if move:  # the client leaves its legs by a reset, and nobody hears it
            assert place.proxy is not None
            (other,) = {*names(place)} - {place.status()["sessions"][0]["network"]}
            os.kill(place.proxy.pid, signal.SIGSTOP)
            time.sleep(0.02)
            place.move(other)
            time.sleep(0.05)
        place.kill_proxy()
        place.start_proxy()
        eventually("the networks work again", lambda: len(place.up()) == 2)
    place.move(names(place)[1])
    finished(place, *several)


def test_a_killed_proxy_and_a_lost_network_at_once(place: SocksLab, peer: Address) -> None:
    one = place.connect(peer)
    one.exchange(80, 5_000_000, 0.03)
    time.sleep(0.4)
    (session,) = place.status()["sessions"]
    link = link_of(place, session["network"])
    place.kill_proxy()
    link.set_silent(True)
    try:
        time.sleep(1.0)
        place.start_proxy()
        finished(place, one)
    finally:
        link.set_silent(False)
    eventually("the network is back", lambda: len(place.up()) == 2)


def test_a_client_without_any_network_goes_on_when_it_has_one(place: SocksLab, peer: Address) -> None:
    one = place.connect(peer)
    one.exchange(90, 3_000_000, 0.02)
    time.sleep(0.3)
    for link in place.lab.links.values():
        link.set_silent(True)
    time.sleep(3.0)
    assert place.proxy_status()["sessions"] == 1
    for link in place.lab.links.values():
        link.set_silent(False)
    finished(place, one)
    eventually("the networks are back", lambda: len(place.up()) == 2)


def test_a_correspondent_that_refuses_is_told_as_such(place: SocksLab, peer: Address) -> None:
    assert place.connect(Address(peer.host, 9)).code == Code.REFUSED
    for inside in ("127.0.0.1", "10.1.2.3", place.lab.topology.anchor.address, "169.254.169.254"):
        assert place.connect(Address(inside, 80)).code == Code.NOT_ALLOWED


def test_curl_uses_the_entrance_by_socks_and_by_http(place: SocksLab, peer: Address, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1_000_000))
    web = place.lab.start("ch", "web", ["python3", "-m", "http.server", "8000", "--directory", str(tmp_path)])
    url = f"http://{peer.host}:8000/file"
    try:
        for how in ("socks5", "http"):
            got = tmp_path / how
            eventually("the web server answers", lambda: namespaces.run(
                place.lab.namespace("mh"), "curl", "-sf", "-x", f"{how}://zoom:x@127.0.0.1:{LOCAL_PORT}", url,  # noqa: B023
                "-o", str(got), "-w", "%{http_code}", check=False) == "200")  # noqa: B023  # fmt: skip
            assert got.read_bytes() == (tmp_path / "file").read_bytes()
    finally:
        web.stop()


def test_ssh_goes_through_by_nc_and_moves(place: SocksLab, peer: Address, tmp_path: Path) -> None:
    key, hostkey = tmp_path / "id", tmp_path / "host"
    for file in (key, hostkey):
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(file)], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"Port 2222\nHostKey {hostkey}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nPidFile none\n"
    )
    server = place.lab.start("ch", "sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd_config")])
    server.wait_for("listening", 10.0)
    command = [
        "ssh", "-F", "none", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", f"ProxyCommand=nc -X 5 -x 127.0.0.1:{LOCAL_PORT} %h %p", "-p", "2222", peer.host,
        "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.2; done",
    ]  # fmt: skip
    try:
        with subprocess.Popen(
            namespaces.entering(place.lab.namespace("mh"), command), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as ssh:
            for number in range(4):
                time.sleep(0.5)
                place.move(names(place)[number % 2])
            out, err = ssh.communicate(timeout=30.0)
        assert out == b"".join(b"line %d\n" % number for number in range(1, 11)), err
    finally:
        server.stop()


def link_of(place: SocksLab, network: str) -> AccessLink:
    return place.lab.links[network]
