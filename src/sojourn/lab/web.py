"""HTTP in both directions with a check of every byte: a threaded server with made-up content, curl as the client.

`python -m sojourn.lab.web serve PORT JOURNAL` serves /download?bytes=N&seconds=S (content by `content`, evenly spread
over S seconds, and as fast as the network takes it when behind) and takes PUT /upload, which answers with the SHA-256
it saw. `... download URL BYTES SECONDS JOURNAL` and `... upload URL BYTES SECONDS JOURNAL` run curl and check the sum.
"""

import hashlib
import http.server
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sojourn.errors import RemoteProtocolError
from sojourn.lab.journal import Journal
from sojourn.lab.processes import Piped, now

BLOCK_BYTES = 65536
PIECES_PER_SECOND = 20
MAX_LINE_BYTES = 64
CURL = ["curl", "--silent", "--show-error", "--fail", "--no-buffer", "--noproxy", "*"]


def content(size: int, piece: int) -> Iterator[bytes]:
    """Yield `size` bytes that are the same in every run, in pieces: SHAKE-128 of the block's number."""
    block, number = b"", 0
    while size > 0:
        if len(block) < piece:
            block += hashlib.shake_128(number.to_bytes(8, "big")).digest(BLOCK_BYTES)
            number += 1
        part, block = block[: min(piece, size)], block[min(piece, size) :]
        size -= len(part)
        yield part


def paced(size: int, seconds: float) -> Iterator[bytes]:
    """Yield the content on a fixed schedule of `seconds`: late pieces follow at once."""
    piece = max(1, round(size / max(seconds, 0.05) / PIECES_PER_SECOND))
    due = now()
    for part in content(size, piece):
        time.sleep(max(0.0, due - now()))
        due += 1 / PIECES_PER_SECOND
        yield part


def digest_of(size: int) -> str:
    """Return the SHA-256 of the whole content."""
    digest = hashlib.sha256()
    for part in content(size, BLOCK_BYTES):
        digest.update(part)
    return digest.hexdigest()


class Body(Protocol):
    """A buffered stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b'' at the end."""
        ...

    def readline(self, size: int, /) -> bytes:
        """Return a line of at most `size` bytes."""
        ...


def chunks(body: Body) -> Iterator[bytes]:
    """Yield the parts of a body in chunked coding (RFC 9112 §7.1); RemoteProtocolError for a bad one."""
    while True:
        line = body.readline(MAX_LINE_BYTES)
        try:
            left = int(line.split(b";")[0], 16)
        except ValueError as error:
            raise RemoteProtocolError(f"bad chunk size {line!r}") from error
        if left < 0:
            raise RemoteProtocolError(f"bad chunk size {line!r}")
        last = left == 0
        while left:
            data = body.read(min(left, 4096))
            if not data:
                raise RemoteProtocolError("the body ended within a chunk")
            left -= len(data)
            yield data
        body.readline(MAX_LINE_BYTES)
        if last:
            return


class Handler(http.server.BaseHTTPRequestHandler):
    """What the server does for one connection."""

    protocol_version = "HTTP/1.1"
    journal: Journal

    def do_GET(self) -> None:
        """Send the content at the asked pace."""
        wanted = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        size, seconds = int(wanted.get("bytes", "0")), float(wanted.get("seconds", "0"))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for part in paced(size, seconds):
            self.wfile.write(part)

    def do_PUT(self) -> None:
        """Take a body and say what it was."""
        digest, count = hashlib.sha256(), 0
        for part in chunks(self.rfile):
            self.journal.got(len(part))
            digest.update(part)
            count += len(part)
        answer = f"{count} {digest.hexdigest()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the journal has it."""


def serve(port: int, journal: Journal) -> None:
    """Serve until the process is ended."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

    Handler.journal = journal
    with Server(("::", port), Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


def download(url: str, size: int, seconds: float, journal: Journal) -> str:
    """Fetch the content with curl and check it; return what was wrong, or ''."""
    digest, count = hashlib.sha256(), 0
    with Piped([*CURL, f"{url}/download?bytes={size}&seconds={seconds}"]) as curl:
        while data := curl.read():
            journal.got(len(data))
            digest.update(data)
            count += len(data)
        code, said = curl.end()
    if code:
        return f"curl ended with {code} after {count} of {size} bytes: {said}"
    return "" if digest.hexdigest() == digest_of(size) else f"the checksum of {count} bytes is wrong"


def upload(url: str, size: int, seconds: float, journal: Journal) -> str:
    """Send the content with curl and check what the server saw; return what was wrong, or ''."""
    with Piped([*CURL, "--header", "Expect:", "--upload-file", "-", f"{url}/upload"]) as curl:
        try:
            for part in paced(size, seconds):
                curl.stdin.write(part)
                curl.stdin.flush()
            curl.stdin.close()
        except BrokenPipeError:
            journal.error("curl closed its input")
        answer = curl.stdout.read().decode(errors="replace").strip()
        code, said = curl.end()
    if code:
        return f"curl ended with {code}: {said}"
    return "" if answer == f"{size} {digest_of(size)}" else f"the server saw {answer!r}"


def main(arguments: list[str]) -> None:
    """Run from the command line, as the module's docstring says."""
    if arguments[0] == "serve":
        serve(int(arguments[1]), Journal(Path(arguments[2])))
        return
    action, url, size, seconds, path = arguments
    journal = Journal(Path(path))
    wrong = (download if action == "download" else upload)(url, int(size), float(seconds), journal)
    journal.end(not wrong, wrong or "SHA-256 is right")


if __name__ == "__main__":
    main(sys.argv[1:])
