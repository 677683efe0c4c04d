"""Be a server without a public address: callers reach it at the proxy, and their connections move with it.

python examples/sockets/serve.py 8080
"""

import sys

import sojourn.socket as socket

with socket.create_server(("", int(sys.argv[1]))) as server:
    print("call", *server.getsockname()[:2], flush=True)
    while True:
        caller, address = server.accept()
        with caller:
            print(address[0], "calls", flush=True)
            while data := caller.recv(65536):
                caller.sendall(data)
