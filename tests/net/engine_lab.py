"""Two engines and a correspondent in three namespaces; no control, no SIP, keys given by hand.

    sjp-PID-host                    sjp-PID-anchor                          sjp-PID-corr
    sj0  10.201.0.2                 sj0  10.201.0.1
         fd00:201::2                     fd00:201::1
    h0   198.51.100.1  <-- veth --> a0   198.51.100.2     a1  192.0.2.1  <-- veth -->  c0  192.0.2.80
         2001:db8:1::1                   2001:db8:1::2        2001:db8:2::1               2001:db8:2::80

The correspondent knows the way back to the Vipa: what the anchor's NAT does is not of interest here.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from sojourn.lab.namespaces import settle
from sojourn.linux.threads import VARIABLE
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    InstallSecret,
    OpenTunnel,
    Report,
    Role,
    SetDefault,
    Setup,
)
from sojourn.upmt.events import AnyEvent, Counters

HOST, ANCHOR, CORRESPONDENT = (f"sjp-{os.getpid()}-{role}" for role in ("host", "anchor", "corr"))
VIPA, VIPA6 = "10.201.0.2", "fd00:201::2"
PEER, PEER6 = "192.0.2.80", "2001:db8:2::80"
OUTER = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8:1::1", "2001:db8:1::2")}
MTU = 1420
ME = AssociationId(1)
TUNNEL = TunnelId(0xABCDEF)
SECRET = InstallSecret(ME, Secret(1, bytes(range(32)), 1))
REPO = Path(__file__).parents[2]

_LAYOUT = f"""
link add h0 netns {HOST} type veth peer name a0 netns {ANCHOR}
link add a1 netns {ANCHOR} type veth peer name c0 netns {CORRESPONDENT}
-n {HOST} addr add 198.51.100.1/24 dev h0
-n {HOST} addr add 2001:db8:1::1/64 dev h0 nodad
-n {ANCHOR} addr add 198.51.100.2/24 dev a0
-n {ANCHOR} addr add 2001:db8:1::2/64 dev a0 nodad
-n {ANCHOR} addr add 192.0.2.1/24 dev a1
-n {ANCHOR} addr add 2001:db8:2::1/64 dev a1 nodad
-n {CORRESPONDENT} addr add {PEER}/24 dev c0
-n {CORRESPONDENT} addr add {PEER6}/64 dev c0 nodad
-n {HOST} link set h0 up
-n {ANCHOR} link set a0 up
-n {ANCHOR} link set a1 up
-n {CORRESPONDENT} link set c0 up
-n {CORRESPONDENT} route add 10.201.0.0/16 via 192.0.2.1
-n {CORRESPONDENT} route add fd00:201::/64 via 2001:db8:2::1
-n {HOST} tuntap add dev sj0 mode tun QUEUES
-n {HOST} link set sj0 mtu {MTU} up
-n {HOST} addr add {VIPA}/16 dev sj0
-n {HOST} addr add {VIPA6}/64 dev sj0 nodad
-n {HOST} route add 192.0.2.0/24 dev sj0
-n {HOST} route add 2001:db8:2::/64 dev sj0
-n {ANCHOR} tuntap add dev sj0 mode tun QUEUES
-n {ANCHOR} link set sj0 mtu {MTU} up
-n {ANCHOR} addr add 10.201.0.1/16 dev sj0
-n {ANCHOR} addr add fd00:201::1/64 dev sj0 nodad
"""

PATIENCE = 30.0
"""Seconds after which an engine that has not done something is taken to be stuck: nothing here is about speed."""

T = TypeVar("T")


def run(*words: str, check: bool = True) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(words, check=check, capture_output=True, text=True).stdout


def within(namespace: str, work: Callable[[], T]) -> T:
    """Call `work` with this thread in another namespace: the sockets that it opens stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(other, 0):
            raise OSError(ctypes.get_errno(), namespace)
        return work()
    finally:
        libc.setns(own, 0)
        os.close(own)
        os.close(other)


class End:
    """One engine process, and what it has told so far."""

    def __init__(self, namespace: str, without: str, threads: int = 1, *words: str) -> None:
        environment = {**os.environ, "SOJOURN_WITHOUT": without, "PYTHONPATH": f"{REPO / 'src'}:{REPO}"}
        environment[VARIABLE] = str(threads)
        self.process = subprocess.Popen(
            ("ip", "netns", "exec", namespace, sys.executable, "-m", "tests.net.engine_end", *words),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=REPO,
        )  # fmt: skip
        self.events: list[AnyEvent] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        decoder = msgspec.json.Decoder(AnyEvent)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(decoder.decode(line))

    def submit(self, *commands: AnyCommand) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(commands) + b"\n")
        self.process.stdin.flush()

    def until(self, kind: type[T], patience: float = PATIENCE) -> T:
        """Return the newest event of a kind, waiting for the first."""
        end = time.monotonic() + patience
        while True:
            for event in reversed(self.events):
                if isinstance(event, kind):
                    return event
            assert time.monotonic() < end, f"no {kind.__name__} among {self.events}"
            assert self.process.poll() is None, "the engine has ended"
            time.sleep(0.01)

    def counters(self) -> Counters:
        """Ask for totals."""
        self.events[:] = [event for event in self.events if not isinstance(event, Counters)]
        self.submit(Report())
        return self.until(Counters)

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self._reader.join(5)
            if self.process.stdout is not None:
                self.process.stdout.close()


class Lab:
    """Both ends, with one tunnel between them."""

    def __init__(self, version: int, without: str = "", threads: int = 1) -> None:
        here, there = OUTER[version]
        self.host, self.anchor = End(HOST, without, threads), End(ANCHOR, without, threads)
        remote = Endpoint(there, 1800)
        self.anchor.submit(
            Setup(
                Role.ANCHOR, "sj0", MTU, inner_addresses=("10.201.0.1", "fd00:201::1"),
                listen=(Endpoint("0.0.0.0", 1800), Endpoint("::", 1800)), allowed=("0.0.0.0/0", "::/0"),
            ),
            AddAssociation(ME, VIPA, VIPA6, (TUNNEL,)),
            SECRET,
        )  # fmt: skip
        time.sleep(0.5)
        self.host.submit(
            Setup(Role.HOST, "sj0", MTU, inner_addresses=("10.201.0.1", "fd00:201::1")),
            AddAssociation(ME, VIPA, VIPA6, (TUNNEL,)),
            SECRET,
            OpenTunnel(ME, TUNNEL, "h0", Endpoint(here, 0), remote),
            SetDefault(ME, TUNNEL),
        )

    def close(self) -> None:
        self.host.close()
        self.anchor.close()


@contextlib.contextmanager
def layout(threads: int = 1) -> Iterator[None]:
    """Namespaces, links and devices (for so many threads a direction), for as long as the block lasts."""
    names = (HOST, ANCHOR, CORRESPONDENT)
    for name in names:
        run("ip", "netns", "del", name, check=False)
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for line in _LAYOUT.replace("QUEUES", "multi_queue" if threads > 1 else "").strip().splitlines():
            run("ip", *line.split())
        for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            run("ip", "netns", "exec", ANCHOR, "sysctl", "-qw", setting)
        for name in names:
            settle(name)
        yield
    finally:
        for name in names:
            run("ip", "netns", "del", name, check=False)
