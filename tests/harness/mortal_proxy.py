"""A SOCKS proxy that is killed at a chosen line of its own code, again and again.

`python -m tests.harness.mortal_proxy`. Standard input: one JSON object (`Plan`), then one word for each life:
`FUNCTION:COUNT` kills it by SIGKILL at the COUNTth line that is carried out after FUNCTION was entered for the first
time (an empty name: from the start), `:0` never. Standard output: `ready PID` when it listens, `dead` when it is. What
outlives it is the real keeper's. Each life is a fork of this process, so that none has to import anything.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from sojourn.control.socks_config import SocksConfig
from sojourn.linux import keeper
from tests.harness.socks_ground import proxy_of

WATCHED = tuple(
    f"/sojourn/{name}.py"
    for name in (
        "linux/relay", "linux/tcp_state", "linux/keeper", "linux/stream_file", "msocks/session", "msocks/copy_buffer",
        "daemon/socks_kept", "daemon/socks_session", "daemon/socks_table", "daemon/socks_proxy",
    )
)  # fmt: skip
"""What moves a byte or notes where it is."""


class Plan(Struct):
    """What the proxy is."""

    port: int
    static: str
    client: str
    secret: str
    keeper: str


class Death:
    """Counts lines, and comes."""

    def __init__(self, word: str) -> None:
        self._function, _, count = word.partition(":")
        self._left = int(count)
        self._begun = not self._function

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it
        if not frame.f_code.co_filename.endswith(WATCHED):
            return None
        self._begun = self._begun or frame.f_code.co_name == self._function
        if self._begun:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


async def live(plan: Plan) -> None:
    config = SocksConfig(port=plan.port, allow=("127.0.0.0/8",), passwords="anywhere", buffer_kib=128)
    static = X25519PrivateKey.from_private_bytes(bytes.fromhex(plan.static))
    proxy = proxy_of(config, static, bytes.fromhex(plan.client), bytes.fromhex(plan.secret))
    proxy.start(("127.0.0.1",), keeper.connect(Path(plan.keeper)))
    if proxy.refused:
        sys.stderr.write(f"restart: {dict(proxy.refused)}\n")
    say(f"ready {os.getpid()}")
    await proxy.run()


def say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    while word := sys.stdin.readline().strip():
        pid = os.fork()
        if not pid:
            sys.settrace(Death(word))
            asyncio.run(live(plan))
            os._exit(0)
        os.waitpid(pid, 0)
        say("dead")


if __name__ == "__main__":
    main()
