"""Facts for `sojourn doctor`: what this machine has, what is missing, and how to mend it. Nothing is changed."""

import ctypes
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from sojourn.errors import SojournError
from sojourn.linux import bpf, dns, firewall, nft, sysctl
from sojourn.linux.release import kernel

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
UDP_SEGMENT, UDP_GRO = 103, 104
USO_SINCE = (6, 2)
LEAST_MTU = 1280 + 20 + 8 + 24
"""The least inner packet (IPv6's minimum) sealed over IPv4."""
LEAST_CONNTRACK = 65536
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


class Check(Struct, frozen=True):
    """One line of `sojourn doctor`."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True
    """False: everything works without it, only slower or with less comfort."""


def host_checks() -> list[Check]:
    """Check what a mobile host needs."""
    rules = nft.HostRules("sojourn0", "10.201.0.2", resolver="10.201.0.1")
    return [*_common(nft.host_text(rules)), _names(), _strict_filter(), *_widths()]


def anchor_checks(device: str, *, tunnel_port: int = 1800, sip_port: int = 5061) -> list[Check]:
    """Check what an anchor needs. `device` is its TUN device, there or not."""
    rules = nft.AnchorRules(device, "10.201.0.0/16", "eth0", pool6="fd00::/64")
    ports = [(tunnel_port, "udp"), (sip_port, "tcp")]
    return [
        *_common(nft.anchor_text(rules)),
        _forwarding(),
        *_attempt("firewall", lambda: _barriers(firewall.present_barriers(), device, ports)),
        _legacy_firewall(),
        _conntrack(),
        _uplink(),
    ]


def _common(table: str) -> list[Check]:
    return [_capabilities(), _tun(), _nft(table), _udp_batches(), _tun_batches(), _kernel_path(), _clock()]


def _capabilities() -> Check:
    name = "permission"
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    missing = [
        word
        for word, bit in (("CAP_NET_ADMIN", CAP_NET_ADMIN), ("CAP_NET_RAW", CAP_NET_RAW))
        if not effective >> bit & 1
    ]
    if missing:
        return Check(name, False, f"{' and '.join(missing)} missing", "Run as root, or by the systemd unit")
    return Check(name, True, "CAP_NET_ADMIN and CAP_NET_RAW")


def _tun() -> Check:
    name, path = "TUN", "/dev/net/tun"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        remedy = "modprobe tun (in a container: give it the device /dev/net/tun)"
        return Check(name, False, f"{path} is not there", remedy)
    except OSError as error:
        return Check(name, False, f"{path}: {error.strerror}", "Run as root; in a container allow the device 10:200")
    return Check(name, True, path)


def _nft(table: str) -> Check:
    name = "nftables"
    if shutil.which("nft") is None:
        return Check(name, False, "the command nft is not there", "apt install nftables")
    try:
        nft.run(table, only_check=True)
    except OSError as error:
        remedy = (
            "Load the kernel modules: modprobe -a nf_tables nft_ct nft_chain_nat nft_masq nft_fib_inet nft_reject_inet"
        )
        return Check(name, False, str(error), remedy)
    return Check(name, True, "this kernel takes Sojourn's table")


def _udp_batches() -> Check:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        missing = []
        for word, option in (("UDP_SEGMENT", UDP_SEGMENT), ("UDP_GRO", UDP_GRO)):
            try:
                probe.setsockopt(socket.IPPROTO_UDP, option, 1)
            except OSError:
                missing.append(word)
    if missing:
        return Check("UDP GSO and GRO", False, f"no {' and no '.join(missing)}", "Linux 5.0 or newer", needed=False)
    return Check("UDP GSO and GRO", True, "UDP_SEGMENT and UDP_GRO", needed=False)


def _tun_batches() -> Check:
    release, version = kernel()
    if version < USO_SINCE:
        return Check(
            "TUN USO", False, f"Linux {release} cuts large UDP sends itself", "Linux 6.2 or newer", needed=False
        )
    return Check("TUN USO", True, f"Linux {release}", needed=False)


def _kernel_path() -> Check:
    """Check whether plain tunnels can be the kernel's (bpf/plain.bpf.c); sealed ones never are."""
    name = "BPF for plain tunnels"
    remedy = "Run as root; the package must have been built with clang and libbpf-dev, and libbpf1 be there"
    try:
        bpf.BpfObject(bpf.OBJECTS / "plain.bpf.o").close()
    except (OSError, SojournError) as error:
        return Check(name, False, f"the engine carries them: {error}", remedy, needed=False)
    return Check(name, True, "this kernel takes the programs", needed=False)


def _clock() -> Check:
    libc, room = ctypes.CDLL(None), ctypes.create_string_buffer(512)
    if libc.adjtimex(room) == TIME_ERROR:
        return Check("clock", False, "not synchronised", "timedatectl set-ntp true", needed=False)
    return Check("clock", True, "synchronised", needed=False)


def _names() -> Check:
    servers = dns.nameservers()
    if dns.resolved_answers():
        return Check("names", True, "systemd-resolved")
    if not servers:
        return Check("names", False, "/etc/resolv.conf names no server", "Write `nameserver ADDRESS` into it")
    if all(":" in server for server in servers):
        found, remedy = "all name servers have IPv6 addresses", "Run systemd-resolved, or add one with an IPv4 address"
        return Check("names", False, f"{found}: they are asked past the anchor", remedy, needed=False)
    return Check("names", True, f"port 53 is redirected (resolv.conf: {', '.join(servers)})")


def _strict_filter() -> Check:
    values = {entry.name: sysctl.read(f"net/ipv4/conf/{entry.name}/rp_filter") for entry in _interfaces_of("ipv4")}
    strict = sorted(name for name, value in values.items() if value == "1")
    if values.get("all") != "2" and strict:
        found = f"strict on {', '.join(strict)}: replies pass, multicast from beyond the LAN does not while captured"
        return Check("rp_filter", False, found, "sysctl net.ipv4.conf.all.rp_filter=2, if you watch such", needed=False)
    return Check("rp_filter", True, "not strict", needed=False)


def _widths() -> list[Check]:
    """Check the interfaces that are up: one that takes no full tunnel packet makes fragments."""
    checks = []
    for _, name in socket.if_nameindex():
        folder = Path("/sys/class/net") / name
        try:
            mtu, state = int((folder / "mtu").read_text()), (folder / "operstate").read_text().strip()
        except (OSError, ValueError):
            continue
        if state == "up" and mtu < LEAST_MTU:
            remedy = f"ip link set {name} mtu 1500, where the network takes it"
            checks.append(Check(f"MTU of {name}", False, f"{mtu}, under {LEAST_MTU}", remedy, needed=False))
    return checks or [Check("MTU", True, f"at least {LEAST_MTU} on every interface", needed=False)]


def _forwarding() -> Check:
    value = sysctl.read(sysctl.FORWARD4)
    if value == "1":
        return Check("forwarding", True, "on")
    if os.access(sysctl.ROOT / sysctl.FORWARD4, os.W_OK):
        return Check("forwarding", True, "off; the anchor turns it on while it runs")
    found = "off, and /proc/sys can't be written"
    return Check("forwarding", False, found, "sysctl net.ipv4.ip_forward=1 outside of the container")


def _barriers(found: Sequence[firewall.Barrier], device: str, ports: Sequence[tuple[int, str]]) -> list[Check]:
    """Judge the firewall of this machine's owner: who is not named in it gets no packet through."""
    checks = []
    for barrier in found:
        where = f"{barrier.family} {barrier.table} {barrier.chain} ({barrier.manager})"
        if barrier.hook == "forward" and not barrier.names(device):
            remedy = firewall.forward_remedy(barrier, device)
            checks.append(Check("forward policy", False, f"{where} drops what hosts send", remedy))
        for port, protocol in ports if barrier.hook == "input" else ():
            if not barrier.numbers(port):
                remedy = firewall.input_remedy(barrier, port, protocol)
                checks.append(Check(f"port {port}/{protocol}", False, f"{where} drops what arrives there", remedy))
    return checks or [Check("firewall", True, "no chain of others stands in the way")]


def _legacy_firewall() -> Check:
    """Check iptables of old, which nft does not show."""
    try:
        tables = Path("/proc/thread-self/net/ip_tables_names").read_text().split()
    except OSError:
        tables = []
    if "filter" in tables:
        remedy = "Look at `iptables-legacy -S FORWARD`, and accept the anchor's device there if the policy is DROP"
        return Check(
            "iptables-legacy", False, "has a filter table that can't be judged from here", remedy, needed=False
        )
    return Check("iptables-legacy", True, "not in use", needed=False)


def _conntrack() -> Check:
    limit = sysctl.read("net/netfilter/nf_conntrack_max")
    if limit is None:
        return Check("conntrack", True, "loaded with the anchor's table")
    if int(limit) < LEAST_CONNTRACK:
        remedy = f"sysctl net.netfilter.nf_conntrack_max={LEAST_CONNTRACK}"
        return Check("conntrack", False, f"room for {limit} flows", remedy, needed=False)
    return Check("conntrack", True, f"room for {limit} flows")


def _uplink() -> Check:
    lines = [line.split() for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]]
    interfaces = [words[0] for words in lines if words[1] == "00000000" and words[7] == "00000000"]
    if not interfaces:
        return Check("uplink", False, "no IPv4 default route", 'Add one, or name the interface: uplink = "eth0"')
    return Check("uplink", True, interfaces[0])


def _attempt(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    try:
        return check()
    except (OSError, SojournError) as error:
        return [Check(name, False, str(error), "Mend what is said above, and run this again as root")]


def _interfaces_of(family: str) -> list[Path]:
    return sorted((sysctl.ROOT / "net" / family / "conf").iterdir())
