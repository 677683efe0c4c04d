"""A voice-like conversation: 50 packets/s of 160 bytes each way over UDP (G.711 with 20 ms a packet), numbered.

`python -m sojourn.lab.voice ADDRESS PORT SECONDS JOURNAL [--source PORT]` calls; `... voice - PORT SECONDS JOURNAL`
answers. The answering side is a legacy one: it talks to whoever called first, and to nobody else.
"""

import argparse
import select
import socket
import struct
from pathlib import Path

from sojourn.lab.journal import Journal
from sojourn.lab.processes import now

INTERVAL = 0.02
HEADER = struct.Struct("!Id")
PACKET_BYTES = 160
LISTEN_AFTER = 1.0
"""Seconds for which the last packets are waited for."""
PATIENCE = 15.0
"""Seconds that the answering side waits for a call."""
ASLEEP = 0.5
"""A sender that is this late was suspended: it goes on from now, as a codec does, and does not catch up."""


class Speaker:
    """One end of the conversation."""

    def __init__(self, link: socket.socket, journal: Journal, seconds: float) -> None:
        self._link = link
        self._journal = journal
        self._seconds = seconds
        self._number = 0
        self.received = 0

    def call(self, address: str, port: int) -> None:
        """Begin to talk to an address, and go on to the end."""
        self._link.connect((address, port))
        self._converse()

    def answer(self) -> None:
        """Wait for the first packet, and talk to its sender to the end."""
        self._link.settimeout(PATIENCE)
        data, peer = self._link.recvfrom(2048)
        self._link.connect(peer)
        self._take(data)
        self._converse()

    def _converse(self) -> None:
        self._link.setblocking(False)
        due = now()
        speak_until = due + self._seconds
        while (at := now()) < speak_until + LISTEN_AFTER:
            if at >= due:
                if at < speak_until:
                    self._speak(at)
                due = at if at - due > ASLEEP else due
                due += INTERVAL
                continue
            readable, _, _ = select.select([self._link], [], [], due - at)
            if readable:
                self._listen()

    def _speak(self, at: float) -> None:
        packet = HEADER.pack(self._number, at).ljust(PACKET_BYTES, b"\x55")
        self._journal.sent(self._number)
        self._number += 1
        try:
            self._link.send(packet)
        except OSError as error:
            self._journal.error(str(error))

    def _listen(self) -> None:
        try:
            self._take(self._link.recv(2048))
        except BlockingIOError:
            return
        except OSError as error:
            self._journal.error(str(error))

    def _take(self, data: bytes) -> None:
        if len(data) == PACKET_BYTES:
            number, sent = HEADER.unpack_from(data)
            self.received += 1
            self._journal.got(number, sent)


def main() -> None:
    """Run from the command line, as the module's docstring says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--source", type=int, default=0)
    options = parser.parse_args()
    journal = Journal(options.journal)
    family = socket.AF_INET if options.address == "-" or "." in options.address else socket.AF_INET6
    with socket.socket(family if options.address != "-" else socket.AF_INET6, socket.SOCK_DGRAM) as link:
        speaker = Speaker(link, journal, options.seconds)
        try:
            if options.address == "-":
                link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                link.bind(("::", options.port))
                print("ready", flush=True)
                speaker.answer()
            else:
                link.bind(("", options.source))
                speaker.call(options.address, options.port)
            journal.end(speaker.received > 0, f"{speaker.received} packets received")
        except OSError as error:
            journal.end(False, str(error))


if __name__ == "__main__":
    main()
