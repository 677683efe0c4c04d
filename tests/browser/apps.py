"""Applications on the mobile host, by name, that talk to the correspondent."""

import sys

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.processes import Child

PORT = 7400


def answer(daemons: Daemons) -> None:
    """Start the correspondent's end of all of them."""
    serve = [sys.executable, "-m", "sojourn.lab.chatter", "serve", str(PORT)]
    daemons.lab.start(topology.CORRESPONDENT, "chatter", serve).wait_for("ready", 15)


def start(daemons: Daemons, name: str, connections: int = 1, down: float = 40_000, up: float = 8_000) -> Child:
    """Start an application, and wait until it is connected. Rates in bit/s, of each connection."""
    address = daemons.lab.topology.correspondent.address
    chatter = ["talk", address, str(PORT), str(connections), str(down), str(up)]
    child = daemons.lab.start(topology.MOBILE_HOST, f"app-{name}", [
        sys.executable, "-m", "sojourn", "run", "--socket", str(daemons.host_socket), "--app", name, "--",
        sys.executable, "-m", "sojourn.lab.chatter", *chatter,
    ])  # fmt: skip
    child.wait_for("ready", 20)
    return child


def release(daemons: Daemons) -> None:
    """Take back every order that stands: all, applications, single flows."""
    daemons.call("handover", to="policy", all=True)
    for app in daemons.call("apps"):
        if any(policy.startswith("user:") for policy in app["policies"]):
            daemons.call("handover", to="policy", app=app["application"])


def networks_of(daemons: Daemons, name: str) -> set[str | None]:
    """Return the networks that the daemon says carry an application's flows."""
    return {row["network"] for row in daemons.call("flows") if row["application"] == name}
