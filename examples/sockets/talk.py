"""Talk TLS to a server with asyncio, hear of each handover, and choose the network oneself.

python examples/sockets/talk.py server.example 4433 ca.pem < what-to-say
"""

import asyncio
import ssl
import sys

import sojourn.socket as socket


async def main(host: str, port: int, authority: str) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.on_handover(lambda before, after, gap: print(f"moved from {before} to {after}", file=sys.stderr))
    await loop.sock_connect(sock, (host, port))
    print(f"connected over {sock.network}", file=sys.stderr)
    context = ssl.create_default_context(cafile=authority)
    reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host)
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        if line.startswith(b"/move "):
            sock.move(line.split()[1].decode())  # our own order; policies and failures move it as well
            continue
        writer.write(line)
        sys.stdout.buffer.write(await reader.readline())
        sys.stdout.flush()
    writer.close()
    await writer.wait_closed()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
