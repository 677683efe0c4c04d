"""The real engine in its real process, killed in every way while packets flow.

sjd-PID-h                               sjd-PID-a
sj0  10.201.0.2                         sj0  10.201.0.1, lo 192.0.2.80 (an echo over UDP)
h0   198.51.100.1  <--- veth --->       a0   198.51.100.2

The host's core has two threads a direction and two queues of the device, the anchor's one.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sojourn.lab.namespaces import settle
from sojourn.linux.threads import VARIABLE
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    InstallSecret,
    OpenTunnel,
    Role,
    SetDefault,
    Setup,
    Snapshot,
)  # fmt: skip
from sojourn.upmt.events import AnyEvent, State, TunnelBlocked, TunnelFailed, TunnelTested
from tests.harness.standstill import Standstill
from tests.net.control_end import Note
from tests.net.engine_lab import REPO, run, within

pytestmark = [pytest.mark.net, pytest.mark.timed]

HOST, ANCHOR = f"sjd-{os.getpid()}-h", f"sjd-{os.getpid()}-a"
ME, TUNNEL = AssociationId(1), TunnelId(0x00BEEF)
ECHO = ("192.0.2.80", 7)
SECRET = InstallSecret(ME, Secret(1, os.urandom(32), 1))
ADDED = AddAssociation(ME, "10.201.0.2", None, (TUNNEL,))
ANCHOR_ORDERS: tuple[AnyCommand, ...] = (
    Setup(Role.ANCHOR, "sj0", 1420, inner_addresses=("10.201.0.1",), listen=(Endpoint("0.0.0.0", 1800),),
          allowed=("0.0.0.0/0",)),
    ADDED, SECRET,
)  # fmt: skip
HOST_ORDERS: tuple[AnyCommand, ...] = (
    Setup(Role.HOST, "sj0", 1420, inner_addresses=("10.201.0.1",)), ADDED, SECRET,
    OpenTunnel(ME, TUNNEL, "h0", Endpoint("198.51.100.1", 0), Endpoint("198.51.100.2", 1800)),
    SetDefault(ME, TUNNEL),
)  # fmt: skip
LAYOUT = f"""
link add h0 netns {HOST} type veth peer name a0 netns {ANCHOR}
-n {HOST} addr add 198.51.100.1/24 dev h0
-n {ANCHOR} addr add 198.51.100.2/24 dev a0
-n {ANCHOR} addr add 192.0.2.80/32 dev lo
-n {HOST} link set h0 up
-n {ANCHOR} link set a0 up
-n {HOST} tuntap add dev sj0 mode tun multi_queue
-n {HOST} link set sj0 mtu 1420 up
-n {HOST} addr add 10.201.0.2/16 dev sj0
-n {HOST} route add 192.0.2.0/24 dev sj0
-n {ANCHOR} tuntap add dev sj0 mode tun
-n {ANCHOR} link set sj0 mtu 1420 up
-n {ANCHOR} addr add 10.201.0.1/16 dev sj0
"""
THREADS = {HOST: "2", ANCHOR: "1"}
_said = msgspec.json.Decoder(AnyEvent | Note)


class End:
    """A control process in a namespace, and what it has said so far."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.directory = directory
        self.namespace = namespace
        self.said: list[AnyEvent | Note] = []
        self.pid = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ("ip", "netns", "exec", self.namespace, sys.executable, "-m", "tests.net.control_end",
             str(self.directory / "path.sock"), str(self.directory / "epochs")),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO,
            env={**os.environ, "PYTHONPATH": f"{REPO / 'src'}:{REPO}", VARIABLE: THREADS[self.namespace]},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        self.pid = self.until(lambda said: isinstance(said, Note) and said.what in {"started", "adopted"}).pid

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(_said.decode(line))

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def submit(self, *orders: AnyCommand) -> None:
        self.write(msgspec.json.encode(orders))

    def until(self, wanted: Callable[[AnyEvent | Note], object], patience: float = 10.0) -> "Note":
        """Return what was first said that is wanted (typed as a Note: tests know what they asked for)."""
        end = time.monotonic() + patience
        while True:
            for said in self.said:
                if wanted(said):
                    return said  # type: ignore[return-value]
            assert time.monotonic() < end, self.said[-5:]
            time.sleep(0.005)

    def who(self) -> Note:
        self.said[:] = [said for said in self.said if not isinstance(said, Note)]
        self.write(b"who")
        return self.until(lambda said: isinstance(said, Note))

    def until_replaced(self) -> Note:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            note = self.who()
            if note.pid not in {0, self.pid} and note.seconds:
                self.pid = note.pid
                return note
            time.sleep(0.02)
        raise AssertionError("nothing took the place of the process")

    def state(self) -> State:
        self.said[:] = [said for said in self.said if not isinstance(said, State)]
        self.submit(Snapshot())
        found = self.until(lambda said: isinstance(said, State))
        assert isinstance(found, State)
        return found

    def kill_control(self) -> None:
        """Kill -9, and the helpers that started it, too."""
        self.process.kill()
        self._finish()

    def stop(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.write(b"stop")
        try:
            self.process.wait(10)
        finally:
            self.kill_control()

    def _finish(self) -> None:
        self.process.wait(30)
        self._reader.join(5)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Pulse:
    """A UDP packet every 5 ms to the echo and back; remembers when answers came."""

    def __init__(self) -> None:
        def make(bind: tuple[str, int] | None) -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.settimeout(0.2)
            if bind:
                made.bind(bind)
            return made

        self._echo = within(ANCHOR, lambda: make(ECHO))
        self._sender = within(HOST, lambda: make(("10.201.0.2", 4000)))
        self.answers: list[tuple[float, int]] = []
        self.asked = 0
        self._going = True
        self._stood = Standstill().__enter__()
        self._threads = [threading.Thread(target=work) for work in (self._answer, self._ask, self._hear)]
        for thread in self._threads:
            thread.start()

    def _answer(self) -> None:
        while self._going:
            with contextlib.suppress(TimeoutError):
                data, source = self._echo.recvfrom(2048)
                self._echo.sendto(data, source)

    def _ask(self) -> None:
        while self._going:
            self._sender.sendto(self.asked.to_bytes(4), ECHO)
            self.asked += 1
            time.sleep(0.005)

    def _hear(self) -> None:
        while self._going:
            with contextlib.suppress(TimeoutError):
                data = self._sender.recv(2048)
                self.answers.append((time.monotonic(), int.from_bytes(data)))

    def settle(self, answers: int = 40) -> None:
        """Wait until so many more answers have come."""
        wanted = len(self.answers) + answers
        end = time.monotonic() + 10
        while len(self.answers) < wanted:
            assert time.monotonic() < end, f"{len(self.answers)} answers to {self.asked}"
            time.sleep(0.01)

    def longest_gap(self, since: float) -> float:
        """Return the longest pause between answers, without what of it the machine stood still."""
        return self._stood.longest([at for at, _ in self.answers if at >= since])

    def close(self) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()
        self._stood.__exit__(None, None, None)
        self._echo.close()
        self._sender.close()


@pytest.fixture(scope="module")
def spaces() -> Iterator[None]:
    try:
        for name in (HOST, ANCHOR):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for line in LAYOUT.strip().splitlines():
            run("ip", *line.split())
        for name in (HOST, ANCHOR):
            settle(name)
        yield
    finally:
        for name in (HOST, ANCHOR):
            run("ip", "netns", "del", name, check=False)


@pytest.fixture
def host(spaces: None, tmp_path: Path) -> Iterator[End]:
    with end_in(HOST, tmp_path / "host") as end:
        yield end


@pytest.fixture
def anchor(spaces: None, tmp_path: Path) -> Iterator[End]:
    with end_in(ANCHOR, tmp_path / "anchor") as end:
        end.submit(*ANCHOR_ORDERS)
        end.state()
        yield end


@contextlib.contextmanager
def end_in(namespace: str, directory: Path) -> Iterator[End]:
    directory.mkdir()
    end = End(namespace, directory)
    try:
        yield end
        end.stop()
        assert {path.name for path in directory.iterdir()} == {"epochs"}
        assert not alive(end.pid)
        assert "LOWER_UP" not in run("ip", "-n", namespace, "link", "show", "sj0").split(">")[0]
    finally:
        end.stop()


@pytest.fixture
def pulse(anchor: End, host: End) -> Iterator[Pulse]:
    host.submit(*HOST_ORDERS)
    host.until(lambda said: isinstance(said, TunnelTested))
    pulse = Pulse()
    try:
        pulse.settle()
        time.sleep(1.6)  # the spares have loaded
        yield pulse
    finally:
        pulse.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def outer_port() -> str:
    """Return the local port of the tunnel's socket at the host, which is what a NAT has mapped."""
    lines = run("ip", "netns", "exec", HOST, "ss", "-Huna").splitlines()
    return next(words[3].rpartition(":")[2] for words in map(str.split, lines) if "198.51.100.1" in words[3])


def queues() -> str:
    """Return how many queues of the host's device are open: the Python engine asks for one."""
    return run("ip", "-n", HOST, "-d", "link", "show", "sj0").partition("numqueues ")[2].split()[0]


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def test_a_flow_outlives_kill_9_of_the_hosts_data_path(host: End, pulse: Pulse) -> None:
    port, since, queues_before = outer_port(), time.monotonic(), queues()
    before = host.state()
    os.kill(host.pid, signal.SIGKILL)
    note = host.until_replaced()
    pulse.settle()
    say(f"host's data path killed: replaced in {ms(note.seconds)}, gap {ms(pulse.longest_gap(since))}")
    assert outer_port() == port
    after = host.state()
    assert queues() == queues_before == ("1" if os.environ.get("SOJOURN_ENGINE") == "python" else "2")
    assert [(row.flow, row.tunnel) for row in after.rows] == [(row.flow, row.tunnel) for row in before.rows]
    assert (after.secrets, after.tunnels, after.defaults) == (before.secrets, before.tunnels, before.defaults)
    assert not [said for said in host.said if isinstance(said, TunnelFailed | TunnelBlocked)]
    assert pulse.longest_gap(since) < 1.0


def test_a_flow_outlives_kill_9_of_the_anchors_data_path(anchor: End, pulse: Pulse) -> None:
    since = time.monotonic()
    before = anchor.state()
    os.kill(anchor.pid, signal.SIGKILL)
    note = anchor.until_replaced()
    pulse.settle()
    say(f"anchor's data path killed: replaced in {ms(note.seconds)}, gap {ms(pulse.longest_gap(since))}")
    after = anchor.state()
    assert [(row.flow, row.tunnel) for row in after.rows] == [(row.flow, row.tunnel) for row in before.rows]
    assert after.outer == before.outer
    assert pulse.longest_gap(since) < 1.0


def test_a_flow_does_not_notice_kill_9_of_control_and_its_successor_adopts(host: End, pulse: Pulse) -> None:
    since, pid, port = time.monotonic(), host.pid, outer_port()
    host.kill_control()
    pulse.settle(200)
    assert alive(pid)
    host.said.clear()
    host.start()
    assert host.pid == pid
    adopted = host.until(lambda said: isinstance(said, Note) and said.what == "adopted")
    assert adopted.flows >= 1
    host.submit(*HOST_ORDERS)  # a control that starts says again what should be
    pulse.settle(100)
    say(f"control killed and followed by another: gap {ms(pulse.longest_gap(since))}")
    assert pulse.longest_gap(since) < 0.1
    assert outer_port() == port
    # The successor has got the descriptors, and can make good a death of what it adopted.
    os.kill(pid, signal.SIGKILL)
    host.until_replaced()
    pulse.settle()
    assert outer_port() == port


def test_a_flow_outlives_sigterm_to_the_data_path(host: End, pulse: Pulse) -> None:
    since = time.monotonic()
    os.kill(host.pid, signal.SIGTERM)
    host.until_replaced()
    pulse.settle()
    assert pulse.longest_gap(since) < 1.0


def test_an_anchor_listens_on_a_low_port_too_and_still_does_after_a_death(anchor: End) -> None:
    low = Endpoint("0.0.0.0", 443)
    anchor.submit(msgspec.structs.replace(ANCHOR_ORDERS[0], listen=(Endpoint("0.0.0.0", 1800), low)))
    anchor.state()
    assert listening() >= {"443", "1800"}
    os.kill(anchor.pid, signal.SIGKILL)
    anchor.until_replaced()
    anchor.state()
    assert listening() >= {"443", "1800"}
    anchor.submit(ANCHOR_ORDERS[0])
    anchor.state()
    time.sleep(0.1)
    assert "443" not in listening()


def listening() -> set[str]:
    lines = run("ip", "netns", "exec", ANCHOR, "ss", "-Hunal").splitlines()
    return {line.split()[3].rpartition(":")[2] for line in lines}


def test_the_kernel_confirms_that_the_process_is_confined(host: End) -> None:
    host.submit(*HOST_ORDERS)
    host.state()
    status = Path(f"/proc/{host.pid}/status").read_text()
    for line in ("CapPrm:\t0000000000003000", "CapBnd:\t0000000000003000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert SECRET.secret.key not in Path(f"/proc/{host.pid}/cmdline").read_bytes()
