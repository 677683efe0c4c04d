"""The lab itself, without Sojourn: what a link is told to do happens to real packets.

mh 192.168.100.25 --- nat0 160.80.100.1 --- core --- ch 86.0.0.1
   10.10.10.25    --- nat1 65.0.0.1     --/   \\---- an 45.0.0.1
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from sojourn.lab import namespaces
from sojourn.lab.report import Result
from sojourn.lab.runner import Run
from sojourn.lab.scenarios import SCENARIOS
from sojourn.lab.timeline import PlainObserver
from sojourn.lab.topology import CELLULAR, ETHERNET, WIFI, Lab, Topology, remove_remains, standing
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"


def answered(lab: Lab, count: int = 4, *, role: str = "mh", target: str = CORRESPONDENT) -> int:
    """Return how many of `count` echo requests are answered; none also where there is no route."""
    said = lab.run(role, "ping", "-q", "-c", str(count), "-i", "0.02", "-W", "1", target, check=False)
    found = re.search(r"(\d+) received", said)
    return int(found[1]) if found else 0


def mapping(lab: Lab, nat: str) -> set[str]:
    """Return the public sides (address:port) of a NAT's UDP mappings, by conntrack's own table."""
    table = lab.run(nat, "cat", "/proc/net/nf_conntrack", check=False)
    found = re.findall(r"udp .*? src=86\.0\.0\.1 dst=(\S+) sport=3000 dport=(\d+)", table)
    return {f"{address}:{port}" for address, port in found}


def rtt_ms(lab: Lab) -> float:
    said = lab.run("mh", "ping", "-q", "-c", "4", "-i", "0.05", CORRESPONDENT)
    found = re.search(r"= [\d.]+/([\d.]+)/", said)
    assert found, said
    return float(found[1])


def test_the_mobile_host_reaches_everybody_through_its_nat(lab: Lab) -> None:
    assert answered(lab) == 4
    assert answered(lab, target=lab.topology.anchor.address) == 4
    assert answered(lab, role="ch2", target=lab.topology.anchor.address) == 4


def test_nobody_reaches_the_mobile_host(lab: Lab) -> None:
    assert answered(lab, role="ch", target="192.168.100.25") == 0


def test_up_is_idempotent_and_down_leaves_nothing(lab: Lab) -> None:
    before = namespaces.RUN_NETNS.joinpath(lab.namespace("mh")).stat().st_ino
    lab.up()
    assert namespaces.RUN_NETNS.joinpath(lab.namespace("mh")).stat().st_ino == before
    sleeper = lab.start("an", "sleeper", ["sleep", "1000"])
    lab.down()
    assert not standing(lab.topology.prefix)
    assert not Path(f"/proc/{sleeper.pid}").exists()
    assert not lab.folder.exists()
    lab.down()


def test_remains_of_a_crash_are_built_over(lab: Lab) -> None:
    namespaces.delete([lab.namespace("core")])
    assert not lab.is_up()
    lab.up()
    assert answered(lab) == 4


def test_labs_of_processes_that_are_gone_are_removed_and_others_are_not(lab: Lab, make_lab: MakeLab) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = make_lab(Topology(prefix=f"{lab.topology.prefix}-{gone.pid}"))
    assert remove_remains(lab.topology.prefix) == [left.topology.prefix]
    assert not standing(left.topology.prefix)
    assert lab.is_up()


def test_silence_loss_and_absence_do_what_they_say(lab: Lab) -> None:
    wifi = lab.links["wifi"]
    wifi.set_silent(True)
    assert answered(lab) == 0
    wifi.set_silent(False)
    wifi.set_loss(0.5, 0.0)
    assert 10 <= answered(lab, 80) <= 70
    wifi.set_loss(0.0)
    assert answered(lab) == 4
    wifi.leave()
    assert answered(lab) == 4, "the other network has a default route, too"
    lab.links["cellular"].leave()
    assert answered(lab) == 0
    wifi.arrive()
    assert answered(lab) == 4


def test_a_rebinding_gives_the_same_socket_another_port_and_another_address(lab: Lab) -> None:
    wifi = lab.links["wifi"]
    program = (
        "import socket, sys\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('', 2000))\n"
        "for _ in sys.stdin:\n    s.sendto(b'x', ('86.0.0.1', 3000))\n    print('sent', flush=True)\n"
    )
    fifo = lab.folder / "go"
    lab.run("mh", "mkfifo", str(fifo))
    child = lab.start("mh", "sender", ["sh", "-c", f'exec python3 -c "$0" < {fifo}', program])
    seen: list[set[str]] = []
    with fifo.open("w") as go:
        for number in (1, 2, 3):
            if number > 1:
                wifi.rebind(public="160.80.100.9" if number == 3 else None)
            go.write("x\n")
            go.flush()
            child.wait_for("sent\n" * number, 5.0)
            seen.append(mapping(lab, "nat0"))
    child.stop()
    assert seen[0] == {"160.80.100.1:2000"}
    assert len(seen[1]) == len(seen[2]) == 1
    assert seen[1] != seen[0]
    assert next(iter(seen[2])).startswith("160.80.100.9:")


def test_address_and_gateway_change_and_the_old_gateway_is_gone(lab: Lab) -> None:
    wifi = lab.links["wifi"]
    wifi.change_address("192.168.100.77")
    assert "192.168.100.77" in lab.run("mh", "ip", "-4", "addr", "show", "wifi")
    wifi.change_gateway("192.168.100.251")
    assert answered(lab) == 4
    assert answered(lab, target="192.168.100.1") == 0


def test_a_relayed_link_is_as_slow_as_it_is_told(make_lab: MakeLab, prefix: str) -> None:
    lab = make_lab(Topology(prefix=prefix, access=(replace(WIFI, relayed=True, delay_ms=15.0),)))
    assert 30.0 <= rtt_ms(lab) < 45.0
    lab.links["wifi"].set_delay(50.0)
    lab.run("mh", "sleep", "0.2")
    assert 100.0 <= rtt_ms(lab) < 125.0


def test_a_third_network_and_ipv6(make_lab: MakeLab, prefix: str) -> None:
    access = (WIFI, CELLULAR, replace(ETHERNET, ipv6=True))
    lab = make_lab(Topology(prefix=prefix, access=access, ipv6=True))
    assert answered(lab, target=lab.topology.correspondent.address6) == 4
    assert "ethernet" in lab.run("mh", "ip", "-6", "route", "show", "default")
    ends = [one for one in json.loads(lab.run("mh", "ip", "-j", "link", "show")) if one["ifname"] in lab.links]
    assert [one["ifname"] for one in ends if one["ifindex"] == one["link_index"]] == []
    assert len(ends) == len(access)


def bare(name: str, prefix: str) -> Result:
    return Run(SCENARIOS[name](), prefix, PlainObserver(), sojourn=False, grace=4.0).run()


def test_without_sojourn_a_move_breaks_every_flow(prefix: str) -> None:
    """The baseline, and the proof that the judge can see a broken flow."""
    result = bare("address-changed", prefix)
    assert result.broken == ["echo", "voice"]
    assert not result.met
