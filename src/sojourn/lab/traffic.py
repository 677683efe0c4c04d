"""Real applications between the mobile host and the correspondent, each with its own measurement.

A `Kind` names what runs; `Traffic` starts servers and clients in their namespaces, follows their journals,
and turns them into `Stream`s: one a direction, with arrivals and, for numbered packets, what was sent.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sojourn.lab import shell, topology
from sojourn.lab.gaps import Packet
from sojourn.lab.journal import Follower, Line
from sojourn.lab.processes import Child, now
from sojourn.lab.topology import Lab
from sojourn.lab.voice import INTERVAL

VOICE_PORT, ECHO_PORT, WEB_PORT = 3000, 7007, 8080
EXPOSED_PORT = 7070
"""The anchor's port that leads to the host's ECHO_PORT."""
BYTES_PER_SECOND = 250_000
"""Mean rate of a download and of an upload: fast enough to show every gap, slow enough to last."""
GRACE = 25.0
"""Seconds that clients get after their time to receive what is under way, before they count as broken."""
DEAD_AFTER = 2.0
"""Seconds of silence at the end of a voice stream from which it counts as broken."""
KINDS = ("voice", "ssh", "download", "upload", "echo", "called")


class Stream(Struct):
    """One direction of one conversation, as it stands now. Times in seconds of CLOCK_BOOTTIME."""

    name: str
    """What people read: "voice up"."""
    kind: str
    arrivals: list[float]
    """When something came, in order."""
    sent: list[tuple[int, float]]
    """Voice: number and time of each packet."""
    packets: list[Packet]
    """Voice: what came, in order."""
    received_bytes: int = 0
    errors: int = 0
    """How often the sending application was told of an error."""
    ended: float | None = None
    """When the conversation ended; None while it goes on."""
    ok: bool = False
    why: str = ""

    @property
    def broken(self) -> bool:
        """Say whether the conversation ended otherwise than it should."""
        return self.ended is not None and not self.ok


class _Source(Struct):
    """Which lines of which journal belong to which stream."""

    follower: Follower
    arrivals: Stream | None = None
    sending: Stream | None = None
    ending: tuple[Stream, ...] = ()


class Traffic:
    """Everything that talks in one run."""

    def __init__(
        self,
        lab: Lab,
        kinds: tuple[str, ...],
        seconds: float,
        *,
        address: str | None = None,
        run_as: Mapping[str, list[str]] | None = None,
    ) -> None:
        """`run_as`: for a client's name, the words that stand before its command line (`sojourn run --app ...`)."""
        self._lab = lab
        self._run_as = run_as or {}
        self._seconds = seconds
        self._address = address or lab.topology.correspondent.address
        self._servers: list[Child] = []
        self._clients: list[Child] = []
        self._sources: list[_Source] = []
        self.streams: list[Stream] = []
        for kind in kinds:
            getattr(self, f"_open_{kind}")()

    @property
    def client_pid(self) -> int:
        """A process inside the mobile host's namespace."""
        return self._clients[0].pid

    def _journal(self, name: str) -> Path:
        return self._lab.folder / f"{name}.jsonl"

    def _stream(self, name: str, kind: str) -> Stream:
        stream = Stream(name, kind, [], [], [])
        self.streams.append(stream)
        return stream

    def _server(self, name: str, argv: list[str], says: str = "ready") -> None:
        child = self._lab.start(topology.CORRESPONDENT, name, argv)
        child.wait_for(says, 10.0)
        self._servers.append(child)

    def _client(self, name: str, argv: list[str]) -> None:
        argv = [*self._run_as.get(name, []), *argv]
        self._clients.append(self._lab.start(topology.MOBILE_HOST, name, argv))

    def _module(self, name: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", f"sojourn.lab.{name}", *map(str, arguments)]

    @property
    def _bracketed(self) -> str:
        return f"[{self._address}]" if ":" in self._address else self._address

    def _open_voice(self) -> None:
        near, far = self._journal("voice-mh"), self._journal("voice-ch")
        up, down = self._stream("voice up", "voice"), self._stream("voice down", "voice")
        self._sources += [
            _Source(Follower(near), arrivals=down, sending=up, ending=(down,)),
            _Source(Follower(far), arrivals=up, sending=down, ending=(up,)),
        ]
        self._server("voice-server", self._module("voice", "-", VOICE_PORT, self._seconds, far))
        self._client("voice", self._module("voice", self._address, VOICE_PORT, self._seconds, near))

    def _open_echo(self) -> None:
        near, far = self._journal("echo-mh"), self._journal("echo-ch")
        stream = self._stream("echo", "echo")
        self._sources.append(_Source(Follower(near), arrivals=stream, ending=(stream,)))
        self._server("echo-server", self._module("echo", "-", ECHO_PORT, self._seconds, far))
        self._client("echo", self._module("echo", self._address, ECHO_PORT, self._seconds, near))

    def _open_called(self) -> None:
        """Echo with the roles turned round: the caller behind NAT calls the host's exposed port."""
        near, far = self._journal("called-ch2"), self._journal("called-mh")
        stream = self._stream("called", "called")
        self._sources.append(_Source(Follower(near), arrivals=stream, ending=(stream,)))
        server = self._lab.start(
            topology.MOBILE_HOST, "called-server", self._module("echo", "-", ECHO_PORT, self._seconds, far)
        )
        server.wait_for("ready", 10.0)
        self._clients.append(server)
        argv = self._module("echo", self._lab.topology.anchor.address, EXPOSED_PORT, self._seconds, near)
        self._servers.append(self._lab.start(topology.CALLER, "called", argv))

    def _open_ssh(self) -> None:
        folder = self._lab.folder / "ssh"
        near, stream = self._journal("ssh"), self._stream("ssh", "ssh")
        self._sources.append(_Source(Follower(near), arrivals=stream, ending=(stream,)))
        server = shell.prepare(folder, self._lab.namespace(topology.CORRESPONDENT))
        self._server("sshd", server, "Server listening")
        self._client("ssh", self._module("shell", folder, self._address, self._seconds, near))

    def _web(self) -> str:
        if not any(child.name == "web-server" for child in self._servers):
            self._server("web-server", self._module("web", "serve", WEB_PORT, self._journal("web-ch")))
        return f"http://{self._bracketed}:{WEB_PORT}"

    def _open_download(self) -> None:
        url, near, stream = self._web(), self._journal("download"), self._stream("download", "download")
        self._sources.append(_Source(Follower(near), arrivals=stream, ending=(stream,)))
        size = round(BYTES_PER_SECOND * self._seconds)
        self._client("download", self._module("web", "download", url, size, self._seconds, near))

    def _open_upload(self) -> None:
        url, near, stream = self._web(), self._journal("upload"), self._stream("upload", "upload")
        self._sources += [
            _Source(Follower(near), ending=(stream,)),
            _Source(Follower(self._journal("web-ch")), arrivals=stream),
        ]
        size = round(BYTES_PER_SECOND * self._seconds)
        self._client("upload", self._module("web", "upload", url, size, self._seconds, near))

    def follow(self) -> None:
        """Take in what the journals say by now."""
        for source in self._sources:
            for line in source.follower.new_lines():
                _take(source, line)

    def started(self) -> bool:
        """Say whether every stream has had its first arrival."""
        self.follow()
        return all(stream.arrivals for stream in self.streams)

    def over(self) -> bool:
        """Say whether every conversation has ended."""
        self.follow()
        return all(stream.ended is not None for stream in self.streams)

    def finish(self, grace: float = GRACE) -> None:
        """Wait for every conversation's end; one that does not end is broken. Then end all processes."""
        until = time.monotonic() + grace
        while not self.over() and time.monotonic() < until:
            time.sleep(0.05)
        for stream in self.streams:
            if stream.ended is None:
                stream.ended, stream.why = now(), "it hung and never ended"
            _judge_voice(stream)
        for child in (*self._clients, *self._servers):
            child.forget()


def _judge_voice(stream: Stream) -> None:
    # A conversation of datagrams cannot break by itself: it is broken when its end is silence.
    if stream.sent:
        last = stream.sent[-1][1]
        stream.ended = min(stream.ended or last, last + INTERVAL)
        if stream.ok and stream.arrivals[-1] < last - DEAD_AFTER:
            stream.ok, stream.why = False, "nothing came any more"


def _take(source: _Source, line: Line) -> None:
    if line.kind == "got" and source.arrivals is not None:
        stream = source.arrivals
        stream.arrivals.append(line.t)
        if line.sent:
            stream.packets.append(Packet(line.n, line.sent, line.t))
        else:
            stream.received_bytes += line.n
    elif line.kind == "sent" and source.sending is not None:
        source.sending.sent.append((line.n, line.t))
    elif line.kind == "error":
        told = source.ending[0] if source.sending is None else source.sending
        told.errors += 1
    elif line.kind == "end":
        for stream in source.ending:
            stream.ended, stream.ok, stream.why = line.t, line.ok, line.why
