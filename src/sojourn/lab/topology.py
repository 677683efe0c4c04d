r"""A small internet in network namespaces, by default with the addresses of the paper's section VI (Fig. 6).

    mh --- nat0 --- core --- an             mh     mobile host, one interface an access network
      \-- nat1 --/  |  \---- ch            natN   an access network's gateway: NAT and firewall
                    natc --- ch2            an     anchor;  ch  correspondent
                                            ch2    correspondent behind a NAT (natc), who can only call out

Namespaces are named PREFIX-ROLE, so several labs stand side by side. What was built is written to
/run/sojourn-lab/PREFIX/topology.json; removal goes by the names alone and works without that file.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from sojourn.lab import namespaces
from sojourn.lab.links import AccessLink, AccessNetwork, firewall
from sojourn.lab.namespaces import LabError
from sojourn.lab.processes import Child

STATE = Path("/run/sojourn-lab")
ROLE = r"mh|nat[0-9]+|core|an|ch|natc|ch2"
MOBILE_HOST, CORE, ANCHOR, CORRESPONDENT, CALLER, CALLER_NAT = "mh", "core", "an", "ch", "ch2", "natc"

WIFI = AccessNetwork(
    name="wifi", address="192.168.100.25", gateway="192.168.100.1", public="160.80.100.1",
    address6="2001:db8:100::25", gateway6="2001:db8:100::1", public6="2001:db8:a0::1",
)  # fmt: skip
CELLULAR = AccessNetwork(
    name="cellular", address="10.10.10.25", gateway="10.10.10.1", public="65.0.0.1",
    address6="2001:db8:110::25", gateway6="2001:db8:110::1", public6="2001:db8:a1::1",
)  # fmt: skip
ETHERNET = AccessNetwork(
    name="ethernet", address="172.20.3.25", gateway="172.20.3.1", public="195.20.0.1",
    address6="2001:db8:120::25", gateway6="2001:db8:120::1", public6="2001:db8:a2::1",
)  # fmt: skip


class Site(Struct, frozen=True):
    """A host with a public address, behind its own link to the core."""

    address: str
    address6: str
    router: str
    router6: str


class Topology(Struct, frozen=True):
    """What is built. The defaults are the paper's."""

    prefix: str = "sojourn"
    access: tuple[AccessNetwork, ...] = (WIFI, CELLULAR)
    ipv6: bool = False
    """Whether there is IPv6 in the core, at the anchor and at the correspondent; an access network says for itself."""
    anchor: Site = Site("45.0.0.1", "2001:db8:45::1", "45.0.0.254", "2001:db8:45::fe")
    correspondent: Site = Site("86.0.0.1", "2001:db8:86::1", "86.0.0.254", "2001:db8:86::fe")
    caller: str = "192.168.7.2"
    caller_public: str = "151.100.4.1"
    caller_router: str = "151.100.4.254"


def standing(prefix: str) -> list[str]:
    """Return the namespaces of a lab of this prefix, whatever its topology. Those of "x-1" are none of "x"'s."""
    pattern = re.compile(rf"{re.escape(prefix)}-({ROLE})")
    return [name for name in namespaces.names() if pattern.fullmatch(name)]


def own_prefix(prefix: str) -> str:
    """Return a prefix that no other process uses, and by which what a crash leaves can be told (`remove_remains`)."""
    return f"{prefix}-{os.getpid()}"


def remove_remains(prefix: str) -> list[str]:
    """Remove the labs of `own_prefix(prefix)` whose process is gone; return their prefixes."""
    pattern = re.compile(rf"({re.escape(prefix)}-([0-9]+))(-({ROLE}))?")
    folders = [entry.name for entry in STATE.iterdir()] if STATE.is_dir() else []
    found = [match for name in (*namespaces.names(), *folders) if (match := pattern.fullmatch(name))]
    gone = sorted({match[1] for match in found if not Path(f"/proc/{match[2]}").exists()})
    for remains in gone:
        Lab(Topology(prefix=remains)).down()
    return gone


class Lab:
    """A topology and the handles by which its links, hosts and processes are driven."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.folder = STATE / topology.prefix
        self.links = {
            network.name: AccessLink(self.namespace(MOBILE_HOST), self.namespace(f"nat{index}"), index, network)
            for index, network in enumerate(topology.access)
        }
        self.children: list[Child] = []

    def namespace(self, role: str) -> str:
        """Return the name of a role's namespace."""
        return f"{self.topology.prefix}-{role}"

    @property
    def roles(self) -> list[str]:
        """Every namespace of this lab, by role."""
        nats = [f"nat{index}" for index in range(len(self.topology.access))]
        return [MOBILE_HOST, *nats, CORE, ANCHOR, CORRESPONDENT, CALLER_NAT, CALLER]

    def is_up(self) -> bool:
        """Say whether exactly this topology stands already."""
        try:
            built = msgspec.json.decode((self.folder / "topology.json").read_bytes(), type=Topology)
        except (OSError, msgspec.MsgspecError):
            return False
        return built == self.topology and all(namespaces.exists(self.namespace(role)) for role in self.roles)

    def up(self) -> None:
        """Build the lab. One that stands is kept; remains of another or of a crash are removed first."""
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces and devices: run it as root")
        if self.is_up():
            return
        self.down()
        self.folder.mkdir(parents=True, mode=0o755)
        for role in self.roles:
            namespaces.add(self.namespace(role))
            self._quiet(role)
        self._core_links()
        for index, network in enumerate(self.topology.access):
            self._access(index, network)
        self._caller()
        for role in self.roles:
            namespaces.settle(self.namespace(role))
        (self.folder / "topology.json").write_bytes(msgspec.json.encode(self.topology))

    def down(self) -> None:
        """Remove every namespace of this prefix, the processes in them, and the folder."""
        for child in self.children:
            child.forget()
        self.children.clear()
        namespaces.delete(standing(self.topology.prefix))
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, role: str, *argv: str, check: bool = True, timeout: float = 30.0) -> str:
        """Run a command at a role and return its standard output."""
        return namespaces.run(self.namespace(role), *argv, check=check, timeout=timeout)

    def start(self, role: str, name: str, argv: list[str]) -> Child:
        """Start a process at a role; its output goes to NAME.log in the lab's folder."""
        child = Child(name, namespaces.entering(self.namespace(role), argv), self.folder / f"{name}.log")
        self.children.append(child)
        return child

    def _quiet(self, role: str) -> None:
        # A router's job for all but the end hosts; no address detection, which would keep IPv6 waiting for 2 s.
        router = role.startswith("nat") or role == CORE
        namespaces.sysctl(
            self.namespace(role),
            net__ipv4__ip_forward=int(router), net__ipv6__conf__all__forwarding=int(router),
            net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
            net__ipv6__conf__default__accept_dad=0, net__ipv6__conf__default__keep_addr_on_down=1,
            net__ipv6__conf__default__accept_ra=0,
        )  # fmt: skip
        folder = namespaces.ETC_NETNS / self.namespace(role)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text("# the lab has no name server of its own\n")

    def _core_links(self) -> None:
        for role, site in ((ANCHOR, self.topology.anchor), (CORRESPONDENT, self.topology.correspondent)):
            here, core = self.namespace(role), self.namespace(CORE)
            namespaces.ip(core, [
                namespaces.cable(role, here, "eth0"), f"addr add {site.router}/24 dev {role}", f"link set {role} up",
            ])  # fmt: skip
            namespaces.ip(here, [
                f"addr add {site.address}/24 dev eth0", "link set eth0 up", f"route add default via {site.router}",
            ])  # fmt: skip
            if self.topology.ipv6:
                namespaces.ip(core, [f"addr add {site.router6}/64 dev {role} nodad"])
                namespaces.ip(here, [
                    f"addr add {site.address6}/64 dev eth0 nodad", f"route add default via {site.router6}",
                ])  # fmt: skip

    def _access(self, index: int, network: AccessNetwork) -> None:
        nat, core = self.namespace(f"nat{index}"), self.namespace(CORE)
        if network.relayed:
            self._relay(index, network)
        else:
            namespaces.ip(core, [namespaces.cable(f"nat{index}", nat, "out")])
        link = self.links[network.name]
        link.build(core, f"nat{index}", ipv6=self.topology.ipv6)

    def _relay(self, index: int, network: AccessNetwork) -> None:
        link = self.links[network.name]
        link.relay_settings = self.folder / f"relay{index}.json"
        link.set_delay(network.delay_ms, network.jitter_ms)
        # It runs in the core's namespace, so that removal finds it.
        self.start(CORE, f"relay{index}", [
            sys.executable, "-m", "sojourn.lab.relay", f"{self.namespace(f'nat{index}')}:out",
            f"{self.namespace(CORE)}:nat{index}", str(link.relay_settings),
        ]).wait_for("ready", 10.0)  # fmt: skip

    def _caller(self) -> None:
        core, nat, caller = self.namespace(CORE), self.namespace(CALLER_NAT), self.namespace(CALLER)
        public, router = self.topology.caller_public, self.topology.caller_router
        gateway = self.topology.caller.rpartition(".")[0] + ".1"
        namespaces.ip(core, [
            namespaces.cable(CALLER_NAT, nat, "out"),
            f"addr add {router}/24 dev {CALLER_NAT}", f"link set {CALLER_NAT} up",
        ])  # fmt: skip
        namespaces.ip(nat, [
            namespaces.cable("in", caller, "eth0"), f"addr add {gateway}/24 dev in",
            f"addr add {public}/24 dev out", "link set in up", "link set out up", f"route add default via {router}",
        ])  # fmt: skip
        namespaces.ip(caller, [
            f"addr add {self.topology.caller}/24 dev eth0", "link set eth0 up", f"route add default via {gateway}",
        ])  # fmt: skip
        namespaces.run(nat, "nft", "-f", "-", stdin=firewall())
