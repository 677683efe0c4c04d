"""Records tests/data/traffic.pcap.xz: what real programs hand to a TUN device, with its virtio headers.

    python -m tests.data.record      as root; needs iperf3, curl, ssh, sshd, dig, ping (the Makefile's lists have them)

    sjr-PID-a                                 sjr-PID-b
    tun0  10.201.0.2, fd00:201::2  <- pump -> tun0  192.0.2.80, 2001:db8::80

The pump gives each read of one device to the other, super-packets uncut, and writes it down: link type 147 (USER0),
one byte of direction (0: from the host), ten of struct virtio_net_hdr, then the packet. Times are of CLOCK_BOOTTIME.
Nothing secret is in it: keys of the SSH session live as long as the recording.
"""

import contextlib
import lzma
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from sojourn.datapath.loop import boot_time
from sojourn.linux.tun import Tun
from tests.net.engine_lab import run, within

FILE = Path(__file__).with_name("traffic.pcap.xz")
LINK_TYPE = 147
HOST, PEER = f"sjr-{os.getpid()}-a", f"sjr-{os.getpid()}-b"
ADDRESSES = {HOST: ("10.201.0.2/32", "fd00:201::2/128"), PEER: ("192.0.2.80/32", "2001:db8::80/128")}
QUIC = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 4433)); s.setsockopt(17, 103, 1200)
for n in range(3): s.send(bytes(range(256)) * (20 + n))
s.setsockopt(17, 103, 0); s.send(b"short"); s.settimeout(2); print(len(s.recv(9000)))
"""
ECHO = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(("::", 4433))
while True:
    data, where = s.recvfrom(9000)
    if data == b"short": s.setsockopt(17, 103, 1100); s.sendto(bytes(5000), where)
"""


def pump(tuns: tuple[Tun, Tun], kept: list[tuple[float, int, bytes]], stop: threading.Event) -> None:
    while not stop.is_set():
        ready, _, _ = select.select([tun.fd for tun in tuns], [], [], 0.1)
        for way, tun in enumerate(tuns):
            data = tun.read() if tun.fd in ready else None
            if data is not None:
                kept.append((boot_time(), way, data))
                with contextlib.suppress(OSError):
                    os.write(tuns[1 - way].fd, data)


def program(namespace: str, *words: str, check: bool = True) -> str:
    done = subprocess.run(("ip", "netns", "exec", namespace, *words), capture_output=True, text=True, timeout=30)
    assert not check or not done.returncode, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def use_programs(folder: Path) -> None:
    """Let everything happen once."""
    started = []

    def serve(*words: str) -> None:
        started.append(subprocess.Popen(("ip", "netns", "exec", PEER, *words), cwd=folder, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL))  # fmt: skip

    (folder / "page").write_bytes(b"Sojourn " * 8000)
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    (folder / "user.pub").replace(folder / "known")
    Path("/run/sshd").mkdir(exist_ok=True)
    serve("/usr/sbin/sshd", "-D", "-p", "2222", "-h", str(folder / "host"), "-o", "StrictModes=no", "-o", "UsePAM=no",
          "-o", f"AuthorizedKeysFile={folder / 'known'}")  # fmt: skip
    serve(sys.executable, "-m", "http.server", "8080", "--bind", "::")
    serve("iperf3", "-s")
    serve(sys.executable, "-c", ECHO)
    time.sleep(2)
    try:
        for peer in ("192.0.2.80", "2001:db8::80"):
            quoted = f"[{peer}]" if ":" in peer else peer
            program(HOST, "ping", "-c", "2", "-i", "0.2", peer)
            program(HOST, "ping", "-c", "1", "-s", "3000", peer)
            program(HOST, "curl", "-s", "-o", "/dev/null", f"http://{quoted}:8080/page")
            for more in ((), ("-R",), ("-u", "-b", "20M", "-l", "1300")):
                program(HOST, "iperf3", "-c", peer, "-n", "150K", "--repeating-payload", *more)
            program(HOST, "ssh", "-p", "2222", "-i", str(folder / "user"), "-o", "StrictHostKeyChecking=no", "-o",
                    "UserKnownHostsFile=/dev/null", f"root@{peer}", "echo hello; head -c 20000 /dev/zero")  # fmt: skip
            program(HOST, "dig", "+tries=1", "+time=1", f"@{peer}", "example.com", check=False)  # answered by ICMP
            program(HOST, sys.executable, "-c", QUIC, peer)
    finally:
        for process in started:
            process.terminate()
            process.wait()


def write(kept: list[tuple[float, int, bytes]]) -> None:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 17, LINK_TYPE)
    for at, way, data in kept:
        size = len(data) + 1
        out += struct.pack("<IIII", int(at), int(at % 1 * 1e6), size, size) + bytes((way,)) + data
    FILE.write_bytes(lzma.compress(out, preset=9))


def records() -> list[tuple[int, bytes]]:
    """Return (0: from the host, 1: to it; virtio header and packet), in the order in which they were read."""
    data, at, found = lzma.decompress(FILE.read_bytes()), 24, []
    assert struct.unpack_from("<I16xI", data) == (0xA1B2C3D4, LINK_TYPE)
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at + 8)
        found.append((data[at + 16], data[at + 17 : at + 16 + size]))
        at += 16 + size
    return found


def main() -> None:
    kept: list[tuple[float, int, bytes]] = []
    stop = threading.Event()
    try:
        for name in (HOST, PEER):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        tuns = (within(HOST, lambda: Tun.open("tun0")), within(PEER, lambda: Tun.open("tun0")))
        for name, addresses in ADDRESSES.items():
            for address in addresses:
                run("ip", "-n", name, "addr", "add", address, "dev", "tun0", *(["nodad"] if ":" in address else []))
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.tun0.router_solicitations=0")
            run("ip", "-n", name, "link", "set", "tun0", "mtu", "1420", "up")
            for family in ("-4", "-6"):
                run("ip", family, "-n", name, "route", "add", "default", "dev", "tun0")
        thread = threading.Thread(target=pump, args=(tuns, kept, stop))
        thread.start()
        with tempfile.TemporaryDirectory() as folder:
            use_programs(Path(folder))
        stop.set()
        thread.join()
        write(kept)
        sys.stdout.write(f"{len(kept)} reads, {FILE.stat().st_size} bytes\n")
    finally:
        stop.set()
        for name in (HOST, PEER):
            run("ip", "netns", "del", name, check=False)


if __name__ == "__main__":
    main()
