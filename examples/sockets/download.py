"""Download a file with `requests` while networks change: nothing in the library knows of it.

python examples/sockets/download.py http://server.example/file > file
"""

import sys

import sojourn.socket

sojourn.socket.install()

import requests  # noqa: E402 - it finds our sockets in the place of the standard module's

with requests.get(sys.argv[1], stream=True, timeout=60) as answer:
    answer.raise_for_status()
    for piece in answer.iter_content(65536):
        sys.stdout.buffer.write(piece)
