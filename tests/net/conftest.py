"""Labs for the net tests: built for one test, removed whatever happens.

A net test needs root, network namespaces, TUN and nftables. Where the kernel lacks one of them the test is
skipped, and the skip names it. Where the kernel has them and we may not use them, the test fails.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sojourn.lab.daemons import Daemons
from sojourn.lab.scenarios import Scenario
from sojourn.lab.topology import Lab, Topology, own_prefix, remove_remains
from tests.net.experiment import experiment

PREFIX = "sjt"

MakeLab = Callable[[Topology], Lab]


def missing_feature() -> str | None:
    """Return the kernel feature without which no net test can run, or None."""
    if not Path("/proc/self/ns/net").exists():
        return "network namespaces (CONFIG_NET_NS)"
    misc = Path("/proc/misc").read_text()
    if not re.search(r"\btun$", misc, re.MULTILINE) and not Path("/dev/net/tun").exists():
        return "TUN devices (CONFIG_TUN)"
    return None


def check_rights() -> None:
    """Fail, with the reason, where the kernel has all that is needed and we may not use it."""
    if os.geteuid() != 0:
        pytest.fail("net tests need root: run `sudo make test`", pytrace=False)
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.fail("/dev/net/tun cannot be opened, although the kernel has TUN: give this container the device",
                    pytrace=False)  # fmt: skip


@pytest.fixture(autouse=True)
def _net_test(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("net") is None:
        return
    feature = missing_feature()
    if feature is not None:
        pytest.skip(f"this kernel has no {feature}")
    check_rights()


@pytest.fixture(scope="session", autouse=True)
def _no_remains() -> None:
    """Remove labs of earlier test runs that crashed."""
    if os.geteuid() == 0:
        remove_remains(PREFIX)


@pytest.fixture
def prefix() -> str:
    """Return namespace names of our own: several test runs may go on at a time."""
    return own_prefix(PREFIX)


@pytest.fixture
def make_lab(prefix: str) -> Iterator[MakeLab]:
    """Return a function that builds a lab of any topology; it is removed when the test ends."""
    made: list[Lab] = []

    def make(topology: Topology) -> Lab:
        lab = Lab(topology)
        made.append(lab)
        lab.up()
        return lab

    try:
        yield make
    finally:
        for lab in made:
            lab.down()


@pytest.fixture
def lab(make_lab: MakeLab, prefix: str) -> Lab:
    """Return a lab that stands: two access networks, anchor, correspondents, nothing of Sojourn running."""
    return make_lab(Topology(prefix=prefix))


@pytest.fixture
def sojourn(lab: Lab) -> Daemons:
    """Return an anchor and a mobile host that run and are associated, every network tested."""
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.start()
    return daemons


@pytest.fixture
def run(prefix: str) -> Callable[[Scenario], None]:
    """Return a function that runs a scenario and fails with its tables unless all expectations are met."""
    return lambda scenario: experiment(scenario, prefix)
