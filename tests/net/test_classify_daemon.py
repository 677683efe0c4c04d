"""The real daemon: what it says of real programs, `sojourn run`, via = "direct", and what happens without BPF.

mh --wifi/cellular--> an --> ch        programs run at mh; ch listens, an:2222 leads to mh:22
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.processes import Child
from sojourn.lab.topology import Lab, Topology
from tests.harness.watched import script_at
from tests.net.conftest import MakeLab
from tests.net.standing import eventually

pytestmark = pytest.mark.net

PYTHON = "/usr/bin/python3"
SEND = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(100):
    sock.sendto(b"x", ("{}", {}))
    time.sleep(0.1)
"""
SERVE = """
import os, socket
listener = socket.create_server(("0.0.0.0", 22))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        open("/proc/self/comm", "w").write("session")
        connection.sendall(b"hello")
        connection.recv(1)
        os._exit(0)
"""


def flow_to(daemons: Daemons, port: int) -> dict[str, Any]:
    """Wait for a flow to a port of the other side (or from one of ours)."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [
            flow for flow in daemons.call("flows") if f":{port}" in (flow["remote"] + " " + flow["local"] + " ")
            and any(flow[end].endswith(f":{port}") for end in ("remote", "local"))
        ]  # fmt: skip
        return bool(found)

    eventually(f"a flow with port {port}", look)
    return found[0]


def send_to(lab: Lab, port: int, *before: str, name: str = "sender") -> Child:
    code = SEND.format(lab.topology.correspondent.address, port)
    return lab.start(topology.MOBILE_HOST, f"{name}-{port}", [*before, PYTHON, "-c", code])


def run_as(daemons: Daemons, app: str) -> list[str]:
    return [sys.executable, "-m", "sojourn", "run", "--socket", str(daemons.host_socket), "--app", app, "--"]


def test_a_flow_has_its_program_from_the_first_packet_on(sojourn: Daemons, lab: Lab, tmp_path: Path) -> None:
    script = script_at(tmp_path / "backup", f"#!{PYTHON}\n" + SEND.format(lab.topology.correspondent.address, 7001))
    lab.start(topology.MOBILE_HOST, "backup", [str(script)])
    flow = flow_to(sojourn, 7001)
    assert (flow["application"], flow["exact"], flow["uid"]) == ("backup", True, 0)
    assert flow["program"] == str(script)


def test_a_command_runs_under_a_name_and_so_do_its_children(sojourn: Daemons, lab: Lab) -> None:
    code = SEND.format(lab.topology.correspondent.address, 7002)
    inner = f'{PYTHON} -c "$0" & {PYTHON} -c "$1" & wait'
    other = SEND.format(lab.topology.correspondent.address, 7003)
    lab.start(topology.MOBILE_HOST, "named", [*run_as(sojourn, "Night work"), "sh", "-c", inner, code, other])
    for port in (7002, 7003):
        flow = flow_to(sojourn, port)
        assert (flow["application"], flow["exact"]) == ("Night work", True)
    send_to(lab, 7004)
    assert flow_to(sojourn, 7004)["application"] != "Night work"


def test_an_ordinary_user_of_the_sockets_group_may_name_a_command(sojourn: Daemons, lab: Lab) -> None:
    os.chmod(lab.folder, 0o711)
    os.chown(sojourn.host_socket, 0, 4321)
    os.chmod(sojourn.host_socket, 0o660)
    source = Path(sys.modules["sojourn"].__path__[0]).parent
    load = f"import sys; sys.path[:0] = {[str(source), *sys.path]!r}; from sojourn.cli.main import main"
    user = ["setpriv", "--reuid", "4000", "--regid", "4000", "--groups", "4321", "--no-new-privs"]
    named = [sys.executable, "-c", f"{load}; main()", *run_as(sojourn, "mine")[3:]]
    if subprocess.run([*user, *named[:2], load], capture_output=True, check=False).returncode:
        pytest.skip("the virtual environment cannot be read by ordinary users here")
    send_to(lab, 7005, *user, *named)
    flow = flow_to(sojourn, 7005)
    assert (flow["application"], flow["uid"], flow["exact"]) == ("mine", 4000, True)


def test_an_exposed_ports_connection_is_the_process_that_serves_it(sojourn: Daemons, lab: Lab) -> None:
    daemons = sojourn
    lab.start(topology.MOBILE_HOST, "server", [PYTHON, "-c", SERVE]).wait_for("ready", 10)
    daemons.command(topology.ANCHOR, "expose", "tcp/22", "--as", "2222", "--socket", str(daemons.anchor_socket))
    ask = f"import socket, time; s = socket.create_connection(('{lab.topology.anchor.address}', 2222), 5);"
    lab.start(topology.CALLER, "caller", ["python3", "-c", ask + " print(s.recv(5)); time.sleep(20)"])
    eventually("whose it is, which its answer tells", lambda: flow_to(daemons, 22)["program"])
    flow = flow_to(daemons, 22)
    assert (flow["exact"], flow["program"][:16]) == (True, "/usr/bin/python3")


def test_control_is_killed_and_flows_are_known_all_the_same_and_after_it_too(sojourn: Daemons, lab: Lab) -> None:
    named = send_to(lab, 7006, *run_as(sojourn, "steady"))
    before = flow_to(sojourn, 7006)
    assert sojourn.host is not None
    sojourn.host.kill()
    send_to(lab, 7007, name="meanwhile")  # seen while there is no control
    sojourn.start_host()
    sojourn.wait_until_associated()
    meanwhile = flow_to(sojourn, 7007)
    assert (meanwhile["exact"], meanwhile["program"][:16]) == (True, "/usr/bin/python3")
    after = flow_to(sojourn, 7006)
    assert (after["application"], after["pid"], after["exact"]) == ("steady", before["pid"], True)
    assert "not known for certain" not in sojourn.host.output()
    child = subprocess.Popen(
        namespaces.entering(lab.namespace(topology.MOBILE_HOST), [*run_as(sojourn, "later"), PYTHON, "-c",
                            SEND.format(lab.topology.correspondent.address, 7008)])
    )  # fmt: skip
    try:
        assert flow_to(sojourn, 7008)["application"] == "later"
    finally:
        child.kill()
        child.wait()
    assert named.running()


def test_a_data_path_that_is_killed_has_a_successor_that_knows_too(sojourn: Daemons, lab: Lab) -> None:
    sojourn.kill_data_path(topology.MOBILE_HOST)
    send_to(lab, 7009)
    flow = flow_to(sojourn, 7009)
    assert (flow["exact"], flow["program"][:16]) == (True, "/usr/bin/python3")


def test_without_bpf_it_says_so_once_carries_plain_tunnels_and_still_finds_the_program(
    make_lab: MakeLab, prefix: str
) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.configure(topology.ANCHOR, plain_tunnels="true")
    daemons.configure(topology.MOBILE_HOST, tunnels='"plain"')
    daemons.start_anchor()
    daemons.host = lab.start(topology.MOBILE_HOST, "host", [
        "setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", sys.executable, "-m", "sojourn", "host",
        "--config-dir", str(daemons.host_folder), "--socket", str(daemons.host_socket),
    ])  # fmt: skip
    daemons.host.wait_for("ready", 15)
    daemons.wait_until_associated()
    assert "applications are not known for certain" in daemons.host.output()
    refused = "plain tunnels are carried by the engine, not by the kernel: "
    assert daemons.host.output().count(refused) == 1
    assert daemons.status()["data_path"]["kernel"] is False
    assert "1 received" in lab.run(topology.MOBILE_HOST, "ping", "-c1", "-W5", lab.topology.correspondent.address)
    send_to(lab, 7010)
    # Control looks who holds the socket when the data path asks: the name comes a moment after the flow.
    eventually("a program", lambda: flow_to(daemons, 7010)["program"])
    flow = flow_to(daemons, 7010)
    assert not flow["exact"]
    assert Path(flow["program"]).name.startswith("python3")
    send_to(lab, 7011, *run_as(daemons, "guess"))
    eventually("its name", lambda: flow_to(daemons, 7011)["application"] == "guess")


def test_a_rule_with_via_direct_sends_a_program_past_the_tunnels(make_lab: MakeLab, prefix: str) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.append(topology.MOBILE_HOST, '\n[[policy]]\ncommand = "bare"\nvia = "direct"\n')
    daemons.start()
    echo = "import socket; s = socket.create_server(('', 7012)); print('ready', flush=True)\n"
    echo += "while True: c, a = s.accept(); c.sendall(a[0].encode()); c.close()"
    lab.start(topology.CORRESPONDENT, "who", ["python3", "-c", echo]).wait_for("ready", 10)
    to = (lab.topology.correspondent.address, 7012)
    ask = f"import socket; print(socket.create_connection({to}, 5).recv(99).decode())"
    rename = "open('/proc/self/comm', 'w').write('bare')\n"
    seen = lab.run(topology.MOBILE_HOST, PYTHON, "-c", ask).strip()
    bare = lab.run(topology.MOBILE_HOST, PYTHON, "-c", rename + ask).strip()
    assert seen == lab.topology.anchor.address
    assert bare in {network.public for network in lab.topology.access}
