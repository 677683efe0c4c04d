"""A SOCKS proxy that is killed at a chosen line of its own code, again and again.

`python -m tests.harness.mortal_proxy`. Standard input: one JSON object (`Plan`), then one word for each life:
`FUNCTION:COUNT` kills it by SIGKILL at the COUNTth line that is carried out after FUNCTION was entered for the first
time (an empty name: from the start), `:0` never; `FUNCTION@TEXT` before the line of FUNCTION that has TEXT. Standard
output: `ready PID` when it listens, `dead` when it is. What outlives it is the real keeper's. Each life is a fork of
this process, so that none has to import anything.
"""

import asyncio
import linecache
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
from sojourn.msocks import session
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
    unproved_hold: float = session.UNPROVED_HOLD


class Death:
    """Counts lines, and comes."""

    def __init__(self, word: str) -> None:
        self._function, self._text = word.split("@") if "@" in word else (word.partition(":")[0], "")
        self._left = 0 if self._text else int(word.partition(":")[2])
        self._begun = not self._function

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it
        if not frame.f_code.co_filename.endswith(WATCHED):
            return None
        if self._text and frame.f_code.co_name == self._function:
            if self._text in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
                os.kill(os.getpid(), signal.SIGKILL)
            return self
        self._begun = self._begun or frame.f_code.co_name == self._function
        if self._begun:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


async def live(plan: Plan) -> None:
    setattr(session, "UNPROVED_HOLD", plan.unproved_hold)  # noqa: B010 - a constant, but for a test's patience
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
