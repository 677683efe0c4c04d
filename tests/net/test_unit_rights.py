"""The daemons work with no more rights than their systemd units leave them (packaging/systemd).

systemd itself does not run here. What of a unit can be had without it is: the capabilities, no new privileges, and no
memory that is both writable and executable.
"""

import os
import sys
from pathlib import Path

import pytest

from sojourn.api.client import Client
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.processes import Child
from sojourn.lab.topology import Topology
from tests.net.conftest import MakeLab
from tests.net.standing import PATIENCE, eventually
from tests.test_systemd import PACKAGING, read

pytestmark = pytest.mark.net

CONFINED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0) and ctypes.get_errno() != 22:  # PR_SET_MDWE; EINVAL: a kernel before 6.3 lacks it
    sys.exit("PR_SET_MDWE is refused")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def capabilities(noun: str) -> list[str]:
    """Return what setpriv wants, of the unit's CapabilityBoundingSet=."""
    words = read(PACKAGING / "systemd" / f"sojourn-{noun}.service")["CapabilityBoundingSet"][0].split()
    return ["-all", *(f"+{word.removeprefix('CAP_').lower()}" for word in words)]


# What a unit finds there; `ip netns exec` hides it behind a /sys of the namespace's own.
CGROUPS = 'test -e /sys/fs/cgroup/cgroup.controllers || mount -t cgroup2 none /sys/fs/cgroup; exec "$0" "$@"'


def start(daemons: Daemons, role: str, noun: str, folder: Path, socket: Path) -> Child:
    child = daemons.lab.start(role, noun, [
        "sh", "-c", CGROUPS,
        "setpriv", f"--bounding-set={','.join(capabilities(noun))}", "--inh-caps=-all", "--no-new-privs",
        sys.executable, "-c", CONFINED,
        sys.executable, "-m", "sojourn", noun, "--config-dir", str(folder), "--socket", str(socket),
    ])  # fmt: skip
    child.wait_for("ready", PATIENCE)
    return child


def test_host_and_anchor_do_all_they_do_with_the_rights_of_their_units(make_lab: MakeLab, prefix: str) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.anchor = start(daemons, topology.ANCHOR, "anchor", daemons.anchor_folder, daemons.anchor_socket)
    daemons.host = start(daemons, topology.MOBILE_HOST, "host", daemons.host_folder, daemons.host_socket)
    daemons.wait_until_associated()
    with open(f"/proc/{daemons.host.pid}/status") as status:
        effective = next(line.split()[1] for line in status if line.startswith("CapEff"))
    assert 0 < int(effective, 16).bit_count() <= len(capabilities("host")) - 1  # a container may have fewer

    lab.run(topology.MOBILE_HOST, "ping", "-c", "2", "-i", "0.2", "86.0.0.1")
    said = daemons.status()
    assert said["applications"]["exact"], said["applications"]["reason"]
    assert said["data_path"]["engine"] == "core", said["data_path"]
    flows = daemons.call("flows")
    assert [flow["application"] for flow in flows if flow["remote"] == "86.0.0.1"] == ["ping"]
    assert os.stat(daemons.host_socket).st_mode & 0o777 == 0o660
    assert Client(str(daemons.anchor_socket)).call("status")["data_path"]["engine"] == "core"

    daemons.kill_data_path(topology.MOBILE_HOST)  # its successor is the same
    eventually("carried again", lambda: lab.run(topology.MOBILE_HOST, "ping", "-c1", "-W1", "86.0.0.1", check=False)
               .find(" 0% packet loss") >= 0)  # fmt: skip
    daemons.stop()
    left = lab.run(topology.MOBILE_HOST, "ip", "rule")
    assert "53" not in {line.partition(":")[0][:2] for line in left.splitlines()}
