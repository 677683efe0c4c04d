"""SIPp against the real anchor daemon, as its owner turns the paper's form on: SIP over UDP and TCP, MD5 allowed.

    ch (86.0.0.1) sipp  --UDP or TCP 5060-->  an (45.0.0.1) sojourn anchor

SIPp 3.6 knows MD5 only; what SHA-256 changes is tested between our own ends.
"""

import asyncio

import pytest

from sojourn.api.client import Client
from sojourn.control import token
from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Topology
from sojourn.model import Endpoint
from tests.net.conftest import MakeLab
from tests.net.sipp_peer import needed, run_sipp

pytestmark = pytest.mark.net


def test_sipp_registers_refreshes_leaves_and_is_refused_at_the_real_anchor(make_lab: MakeLab, prefix: str) -> None:
    needed()
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.configure(topology.ANCHOR, sip_plain="true", digest='["MD5"]', plain_tunnels="true")
    daemons.start_anchor()
    said = daemons.command(
        topology.ANCHOR, "anchor", "--config-dir", str(daemons.anchor_folder), "--socket", str(daemons.anchor_socket),
        "token", "--name", "alice",
    )  # fmt: skip
    secret = token.parse(said).password
    target = Endpoint(lab.topology.anchor.address, 5060)
    local = lab.topology.correspondent.address

    async def play() -> None:
        for transport in ("UDP", "TCP"):
            for scenario in ("challenge", "register", "out_of_order", "brief", "malformed"):
                await run_sipp(scenario, target, transport, secret=secret, local=local)
            await run_sipp("refused", target, transport, secret="guess", local=local)
            await run_sipp("refused", target, transport, secret=secret, tid="phone", local=local)
        await run_sipp("retransmission", target, "UDP", secret=secret, local=local, calls=3)

    namespaces.inside(lab.namespace(topology.CORRESPONDENT), lambda: asyncio.run(play()))
    status = Client(str(daemons.anchor_socket)).call("status")
    (alice,) = [host for host in status["hosts"] if host["name"] == "alice"]
    assert alice["state"] != "revoked"
    assert status["refused"]["tid"] >= 2
