"""Restarts lose no lease and no connection; a clean stop and `cleanup` leave nothing, and touch nothing of the user's.

mh --- nat0, nat1 --- core --- an 45.0.0.1
                       \\---- ch 86.0.0.1
"""

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from sojourn.lab import namespaces
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Lab
from tests.net import wire
from tests.net.capture import Capture
from tests.net.standing import PATIENCE, Sockets, eventually, hosts, kill_all, laptop, processes_of, sojourn_at

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"


@pytest.fixture
def daemons(lab: Lab) -> Daemons:
    """Return an anchor and a host that has joined; nothing runs."""
    made = Daemons(lab)
    made.set_up()
    return made


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    try:
        yield made
    finally:
        made.close()


def anchor_stopped(daemons: Daemons) -> None:
    assert daemons.anchor is not None
    time.sleep(0.5)  # the last acknowledgement passes: without its NAT the anchor's kernel resets who still sends
    assert daemons.anchor.stop(PATIENCE) == 0
    daemons.start_anchor()


def anchor_made_way(daemons: Daemons) -> None:
    assert daemons.anchor is not None
    daemons.anchor.signal(signal.SIGUSR2)
    assert daemons.anchor.wait(PATIENCE) == 0
    daemons.start_anchor()


def anchor_replaced(daemons: Daemons) -> None:
    before = daemons.anchor
    assert before is not None
    daemons.start_anchor("--replace")
    assert before.wait(PATIENCE) == 0


def anchor_control_killed(daemons: Daemons) -> None:
    daemons.kill_anchor()
    daemons.start_anchor()


def anchor_data_path_killed(daemons: Daemons) -> None:
    before = daemons.data_path("an")
    daemons.kill_data_path("an")
    eventually("another data path", lambda: _data_path(daemons, "an") not in (None, before))


def anchor_killed_altogether(daemons: Daemons) -> None:
    kill_all(daemons, "an")
    daemons.start_anchor()


def host_made_way(daemons: Daemons) -> None:
    assert daemons.host is not None
    daemons.host.signal(signal.SIGUSR2)
    assert daemons.host.wait(PATIENCE) == 0
    daemons.start_host()


def host_replaced(daemons: Daemons) -> None:
    before = daemons.host
    assert before is not None
    daemons.start_host("--replace")
    assert before.wait(PATIENCE) == 0


def host_control_killed(daemons: Daemons) -> None:
    assert daemons.host is not None
    daemons.host.kill()
    daemons.start_host()


def host_data_path_killed(daemons: Daemons) -> None:
    before = daemons.data_path("mh")
    daemons.kill_data_path("mh")
    eventually("another data path", lambda: _data_path(daemons, "mh") not in (None, before))


def host_killed_altogether(daemons: Daemons) -> None:
    kill_all(daemons, "mh")
    daemons.start_host()


def _data_path(daemons: Daemons, role: str) -> int | None:
    try:
        return daemons.data_path(role)
    except namespaces.LabError:
        return None


@pytest.mark.parametrize("what", [
    anchor_stopped, anchor_made_way, anchor_replaced,
    anchor_control_killed, anchor_data_path_killed, anchor_killed_altogether,
    host_made_way, host_replaced, host_control_killed, host_data_path_killed, host_killed_altogether,
], ids=lambda what: what.__name__.replace("_", " "))  # fmt: skip
def test_lease_and_connections_outlive_a_restart(
    daemons: Daemons, sockets: Sockets, what: Callable[[Daemons], None]
) -> None:
    daemons.start()
    vipa = daemons.status()["vipa"]
    server, client = sockets.at("ch", socket.SOCK_STREAM, port=6002), sockets.at("mh", socket.SOCK_STREAM)
    server.listen()
    client.connect((CORRESPONDENT, 6002))
    served, _ = server.accept()
    with served:
        served.settimeout(PATIENCE)
        _exchange(client, served, b"before")
        what(daemons)
        _exchange(client, served, b"after")
        laptop(daemons).until("associated again", lambda status: status["state"] == "associated")
        assert daemons.status()["vipa"] == vipa
        _exchange(client, served, b"at last")


def _exchange(one: socket.socket, other: socket.socket, text: bytes) -> None:
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(text)
        got = b""
        while len(got) < len(text):
            got += receiver.recv(100)
        assert got == text


# Nothing is left behind, and what was there is as it was.


USER_TABLE = """
table inet users_own {
    set friends { type ipv4_addr; elements = { 198.51.100.7 } }
    chain watch { type filter hook forward priority 5; policy accept; ip saddr @friends counter packets 7 bytes 7; }
    chain translate { type nat hook postrouting priority 110; policy accept; ip daddr 198.51.100.9 masquerade; }
}
table ip nat_of_another {
    chain c { type nat hook output priority -90; policy accept; }
}
"""


def put_user_s_own(lab: Lab) -> None:
    """Make rules, routes and tables such as an owner may have, some of them near to ours."""
    for role in ("mh", "an"):
        namespaces.run(lab.namespace(role), "nft", "-f", "-", stdin=USER_TABLE)
        namespaces.ip(lab.namespace(role), [
            "link add mine type veth peer name mine_too", "link set mine up", "link set mine_too up",
            "addr add 203.0.113.1/24 dev mine",
            "route add 198.51.100.0/24 via 203.0.113.9", "route add default via 203.0.113.9 table 77",
            "rule add pref 5000 from 203.0.113.0/24 lookup 77", "rule add pref 5299 fwmark 0x5 lookup 77",
            "rule add pref 5400 to 198.51.100.0/24 lookup main", "route add blackhole 10.200.0.0/16",
        ])  # fmt: skip
        lab.run(role, "ip", "-6", "rule", "add", "pref", "5001", "from", "2001:db8:77::/64", "lookup", "77")


def kernel_of(lab: Lab, role: str) -> dict[str, str]:
    """Return all that stands in the kernel at a role, as the tools print it."""
    settings = ("ipv4.ip_forward", "ipv6.conf.all.forwarding", "ipv4.conf.all.accept_redirects",
                "ipv4.conf.all.rp_filter", "ipv4.conf.eth0.forwarding", "ipv6.conf.all.disable_ipv6",
                "ipv6.conf.default.accept_ra")  # fmt: skip
    settled = "grep -v 'fe80:\\|ff00:'"  # the kernel's own, which come some seconds after a link
    commands = {
        "rules": "ip rule; ip -6 rule",
        "routes": f"{{ ip route show table all; ip -6 route show table all; }} | {settled} | sort",
        "links": f"ip -o link | cut -d' ' -f2,3; ip -o addr | {settled} | cut -d' ' -f2-7",
        "nft": "nft list ruleset",
        "settings": "; ".join(f"sysctl -n net.{name} 2>/dev/null || echo none" for name in settings),
    }
    return {name: lab.run(role, "sh", "-c", command) for name, command in commands.items()}


def assert_same(before: dict[str, dict[str, str]], lab: Lab) -> None:
    for role, stood in before.items():
        assert processes_of(lab, role) == []
        now = kernel_of(lab, role)
        for name, text in stood.items():
            assert now[name] == text, f"{name} at {role}"


def users_own_is_there(lab: Lab) -> bool:
    """Say whether what the owner put is untouched while the daemons run."""
    return all(
        "198.51.100.7" in (state := kernel_of(lab, role))["nft"]
        and "counter packets 7 bytes 7" in state["nft"]
        and "nat_of_another" in state["nft"]
        and all(f"{pref}:" in state["rules"] for pref in (5000, 5299, 5400, 5001))
        and "default via 203.0.113.9 dev mine table 77" in state["routes"]
        and "blackhole 10.200.0.0/16" in state["routes"]
        for role in ("mh", "an")
    )


@pytest.fixture
def before(daemons: Daemons) -> dict[str, dict[str, str]]:
    """Return how the kernel was at both before anything was started."""
    put_user_s_own(daemons.lab)
    return {role: kernel_of(daemons.lab, role) for role in ("mh", "an")}


def test_a_clean_stop_gives_the_vipa_back_and_leaves_nothing(
    daemons: Daemons, before: dict[str, dict[str, str]]
) -> None:
    daemons.start()
    assert users_own_is_there(daemons.lab)
    assert "1 received" in daemons.lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT)
    assert daemons.host is not None
    assert daemons.anchor is not None
    assert daemons.host.stop(PATIENCE) == 0
    assert hosts(daemons)[HOST_NAME]["vipa"] is None
    assert hosts(daemons)[HOST_NAME]["state"] == "away"
    assert daemons.anchor.stop(PATIENCE) == 0
    assert_same(before, daemons.lab)
    left = {file.name for folder in (daemons.host_folder, daemons.anchor_folder) for file in folder.iterdir()}
    assert not {name for name in left if "datapath" in name or name.endswith((".sock", ".new", "-wal"))}
    assert not daemons.host_socket.exists()
    assert not daemons.anchor_socket.exists()


def test_cleanup_after_all_four_processes_were_killed_leaves_nothing(
    daemons: Daemons, before: dict[str, dict[str, str]]
) -> None:
    lab = daemons.lab
    daemons.start()
    running = sojourn_at(lab, "mh", "cleanup", "--config-dir", str(daemons.host_folder),
                         "--socket", str(daemons.host_socket))  # fmt: skip
    assert running.returncode == 1
    assert "a daemon is running" in running.stderr
    for role in ("mh", "an"):
        kill_all(daemons, role)
    assert "sojourn0" in kernel_of(lab, "mh")["links"], "what stands waits for the next start"
    for role, folder, path in (
        ("mh", daemons.host_folder, daemons.host_socket), ("an", daemons.anchor_folder, daemons.anchor_socket),
    ):  # fmt: skip
        for expected in ("Nothing of Sojourn's is left.", "There was nothing to remove."):
            done = sojourn_at(lab, role, "cleanup", "--config-dir", str(folder), "--socket", str(path))
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip().splitlines()[-1] == expected
    assert_same(before, lab)


def test_a_host_that_was_killed_is_stopped_cleanly_by_its_successor(
    daemons: Daemons, before: dict[str, dict[str, str]]
) -> None:
    daemons.start()
    for role in ("mh", "an"):
        kill_all(daemons, role)
    daemons.start()
    assert users_own_is_there(daemons.lab)
    daemons.stop()
    assert_same(before, daemons.lab)


def test_a_host_says_goodbye_over_the_network_that_is_left(daemons: Daemons) -> None:
    daemons.start()
    daemons.lab.links["wifi"].set_carrier(False)
    laptop(daemons).until("the other one is in use", lambda status: "cellular" in {
        row["name"] for row in status["networks"] if row["default"]})  # fmt: skip
    assert daemons.host is not None
    assert daemons.host.stop(PATIENCE) == 0
    assert hosts(daemons)[HOST_NAME]["vipa"] is None


def test_with_the_kill_switch_nothing_leaves_bare_not_even_when_all_was_killed(
    daemons: Daemons, sockets: Sockets
) -> None:
    lab = daemons.lab
    daemons.configure("mh", kill_switch="true")
    daemons.start()
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT)
    with contextlib.ExitStack() as stack:
        taps = [stack.enter_context(Capture(lab.namespace("mh"), name)) for name in lab.links]
        kill_all(daemons, "mh")
        client, caller = sockets.at("mh"), sockets.at("mh", socket.SOCK_STREAM)
        caller.settimeout(0.5)
        for _ in range(5):
            with contextlib.suppress(OSError):
                client.sendto(b"a secret", (CORRESPONDENT, 6003))
        with pytest.raises(OSError):
            caller.connect((CORRESPONDENT, 6003))
        namespaces.ip(lab.namespace("mh"), ["link del sojourn0"])  # whatever took the device away
        with contextlib.suppress(OSError):
            client.sendto(b"a secret", (CORRESPONDENT, 6003))
        with pytest.raises(OSError):
            sockets.at("mh", socket.SOCK_STREAM).connect((CORRESPONDENT, 6003))
        for tap in taps:
            bare = [p for p in tap.read(0.2) if wire.address_of(p, source=False) == CORRESPONDENT]
            assert bare == []
    done = sojourn_at(lab, "mh", "cleanup", "--config-dir", str(daemons.host_folder), "--socket", "/nowhere")
    assert done.returncode == 0, done.stderr
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT), "the owner's own way is back"
