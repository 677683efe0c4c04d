"""What can be run: each scenario is a list of timed events, the traffic that must survive, and the figures to meet.

Times are seconds from when all traffic flows. Figures are milliseconds, those of the project's first aim: see `Limits`.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from sojourn.lab import topology
from sojourn.lab.links import AccessNetwork
from sojourn.lab.places import HELD, Expected
from sojourn.lab.stage import Stage
from sojourn.lab.topology import CELLULAR, ETHERNET, WIFI

Action = Callable[[Stage], str | None]
"""Does the event, and may return a detail (which network, which address) for the report."""

SILENCE_MS = 200.0
"""A tunnel is silent after max(this, srtt + 4 rttvar); the lab's paths without relay are far below."""
LAB_RTT_MS = 2.0
"""What the lab's own hops take at most, beside the delay that is set."""
PULLED_MS = 100.0
PLANNED_MS = 40.0
KILLED_MS = 150.0
"""A process that was killed -9 has its place taken by the spare, which is loaded already."""
RETURN_MS = 50.0


class Event(Struct, frozen=True):
    """Something that happens at a time."""

    at: float
    text: str
    do: Action


class Limits(Struct, frozen=True):
    """What is expected beside that no flow breaks. None = not looked at."""

    gap_ms: float | None = None
    """Longest gap of the voice streams, apart from the unevenness of the sender itself."""
    lost: int | None = None
    """Voice packets lost, both directions together."""
    doubled: int | None = 0
    return_ms: dict[int, float] = {}
    """For an event (its place in the list): within what time after it every stream must have an arrival."""
    errors: int | None = 0
    """How often an application may be told of an error."""
    stay: str | None = None
    """The network that must carry the flows all the time."""


class Scenario(Struct, frozen=True):
    """One experiment."""

    name: str
    purpose: str
    seconds: float
    events: tuple[Event, ...]
    limits: Limits = Limits()
    traffic: tuple[str, ...] = ("voice", "echo")
    access: tuple[AccessNetwork, ...] = (WIFI, CELLULAR)
    settings: str = ""
    """Tables of host.toml."""
    run_as: dict[str, str] = {}
    """Traffic that is started by `sojourn run --app NAME`."""
    expected: tuple[Expected, ...] = ()
    """Where applications must be."""


def _on(action: Callable[[Stage, str], str | None], network: str | None = None) -> Action:
    """Return an action on a network: the named one, or the one that carries the flows at that moment."""

    def do(stage: Stage) -> str:
        name = network or stage.active()
        detail = action(stage, name)
        return f"{name}: {detail}" if detail else name

    return do


def _all(*actions: Callable[[Stage], object]) -> Action:
    def do(stage: Stage) -> None:
        for action in actions:
            action(stage)

    return do


def planned(moves: int = 20, every: float = 0.5) -> Scenario:
    """Move all flows to and fro while both networks work."""
    order = ("cellular", "wifi")
    events = tuple(
        Event(1.0 + every * number, f"planned move to {order[number % 2]}", _on(Stage.move, order[number % 2]))
        for number in range(moves)
    )
    return Scenario(
        "planned", f"{moves} moves by order while both networks work: nothing is lost", 2.0 + every * moves, events,
        Limits(gap_ms=PLANNED_MS, lost=0),
    )  # fmt: skip


def link_pulled() -> Scenario:
    """Take the active network's carrier away."""
    return Scenario("link-pulled", "the active network loses its carrier", 8.0, (
        Event(2.0, "cable pulled", _on(Stage.pull, "wifi")),
        Event(5.0, "cable back", _on(Stage.plug, "wifi")),
    ), Limits(gap_ms=PULLED_MS + LAB_RTT_MS))  # fmt: skip


def silent_death() -> Scenario:
    """Let the active network drop everything while its carrier stays."""
    return Scenario("silent-death", "the active network drops everything, and nobody is told", 8.0, (
        Event(2.0, "network falls silent", _on(Stage.silence, "wifi")),
        Event(5.0, "network works again", _on(Stage.heal, "wifi")),
    ), Limits(gap_ms=SILENCE_MS + LAB_RTT_MS))  # fmt: skip


def address_changed() -> Scenario:
    """Give the host another address on the active network."""
    return Scenario("address-changed", "the active network gives the host another address", 7.0, (
        Event(2.0, "other address", _on(Stage.readdress, "wifi")),
        Event(4.5, "other address", _on(Stage.readdress, "wifi")),
    ), Limits(gap_ms=PULLED_MS + LAB_RTT_MS))  # fmt: skip


def gateway_changed() -> Scenario:
    """Replace the active network's gateway."""
    return Scenario("gateway-changed", "the active network's gateway is replaced by another", 7.0, (
        Event(2.0, "other gateway", _on(Stage.regateway, "wifi")),
        Event(4.5, "other gateway", _on(Stage.regateway, "wifi")),
    ), Limits(gap_ms=PULLED_MS + LAB_RTT_MS))  # fmt: skip


def nat_rebinding() -> Scenario:
    """Let the active network's NAT forget all mappings and choose others."""
    return Scenario("nat-rebinding", "the active network's NAT forgets all mappings and makes others", 8.0, (
        Event(2.0, "NAT uses other ports", _on(lambda stage, name: stage.rebind(name), "wifi")),
        Event(4.0, "NAT uses another address", _on(lambda stage, name: stage.rebind(name, public=True), "wifi")),
    ), Limits(gap_ms=PULLED_MS + LAB_RTT_MS))  # fmt: skip


def new_network_after_none() -> Scenario:
    """Let a network appear after a time with none."""
    return Scenario("new-network-after-none", "no network for a while, and then one appears", 8.0, (
        Event(2.0, "all networks leave", lambda stage: stage.leave()),
        Event(5.0, "a network arrives", _on(lambda stage, name: stage.arrive(name), "cellular")),
    ), Limits(return_ms={1: RETURN_MS + LAB_RTT_MS}), traffic=("voice",))  # fmt: skip


def both_lost_and_back(away: float = 10.0) -> Scenario:
    """Take all networks away for a time, and give one back: flows wait, and go on at once."""
    return Scenario(
        "both-lost-and-back", f"no network for {away:g} s; the flows wait and go on at once", away + 6.0, (
            Event(2.0, "all networks leave", lambda stage: stage.leave()),
            Event(2.0 + away, "one network is back", _on(lambda stage, name: stage.arrive(name), "wifi")),
        ), Limits(return_ms={1: 1000.0}), traffic=("voice", "echo", "ssh", "download", "upload"),
    )  # fmt: skip


def lossy(seconds: float = 20.0) -> Scenario:
    """Lose 5 % and jitter by 100 ms for a time: nothing may move."""
    slow = tuple(msgspec.structs.replace(network, relayed=True, delay_ms=20.0) for network in (WIFI, CELLULAR))

    def worsen(stage: Stage) -> None:
        stage.lab.links["wifi"].set_delay(20.0, 100.0)
        stage.lose("wifi", 0.05)

    return Scenario(
        "lossy", f"5 % loss and 100 ms jitter on the active network for {seconds:g} s: no move", seconds + 4.0, (
            Event(2.0, "wifi becomes lossy", worsen),
        ), Limits(stay="wifi"), access=slow,
    )  # fmt: skip


def suspend(seconds: float = 5.0) -> Scenario:
    """Stop all processes of the host for a time while the NATs forget it."""
    return Scenario(
        "suspend", f"all of the host sleeps {seconds:g} s, and the NATs forget it meanwhile", seconds + 6.0, (
            Event(2.0, "host goes to sleep", lambda stage: stage.suspend()),
            Event(2.0 + seconds, "host wakes up", lambda stage: stage.resume()),
        ), Limits(return_ms={1: 1000.0}),
    )  # fmt: skip


def anchor_killed() -> Scenario:
    """Kill -9 the anchor's control process, then its data path."""
    return Scenario("anchor-killed", "kill -9 of either process of the anchor", 11.0, (
        Event(2.0, "anchor's control killed", lambda stage: stage.kill_anchor()),
        Event(4.0, "anchor started again", lambda stage: stage.restart_anchor()),
        Event(7.0, "anchor's data path killed", lambda stage: stage.kill_data_path(topology.ANCHOR)),
    ), Limits(gap_ms=KILLED_MS))  # fmt: skip


def anchor_restarted() -> Scenario:
    """Restart the anchor as its operator does, in both ways there are."""
    return Scenario("anchor-restarted", "the anchor makes way for a new one, and is replaced by another", 9.0, (
        Event(2.0, "anchor makes way", lambda stage: stage.anchor_makes_way()),
        Event(3.0, "anchor started again", lambda stage: stage.restart_anchor()),
        Event(6.0, "another one takes over", lambda stage: stage.restart_anchor("--replace")),
    ), Limits(gap_ms=PULLED_MS, lost=0), traffic=("voice", "echo", "ssh", "download"))  # fmt: skip


def datapath_killed() -> Scenario:
    """Kill -9 the host's data path, then its control process."""
    return Scenario("datapath-killed", "kill -9 of either process of the host", 11.0, (
        Event(2.0, "host's data path killed", lambda stage: stage.kill_data_path(topology.MOBILE_HOST)),
        Event(5.0, "host's control killed", lambda stage: stage.kill_host()),
        Event(7.0, "host started again", lambda stage: stage.restart_host()),
    ), Limits(gap_ms=KILLED_MS))  # fmt: skip


def unequal_delay() -> Scenario:
    """Move by order between networks of 20 and 200 ms RTT."""
    access = (
        msgspec.structs.replace(WIFI, relayed=True, delay_ms=10.0),
        msgspec.structs.replace(CELLULAR, relayed=True, delay_ms=100.0),
    )
    order = ("cellular", "wifi", "cellular", "wifi")
    return Scenario(
        "unequal-delay", "moves by order between networks of 20 and 200 ms RTT: nothing lost or doubled", 14.0,
        tuple(
            Event(3.0 + 2.5 * place, f"planned move to {name}", _on(Stage.move, name))
            for place, name in enumerate(order)
        ), Limits(gap_ms=180.0 + PLANNED_MS, lost=0), traffic=("voice", "download"), access=access,
    )  # fmt: skip


def called() -> Scenario:
    """Let a correspondent behind NAT call an exposed port of the host, and move the host meanwhile."""
    return Scenario("called", "a caller behind NAT talks to an exposed port while the host moves", 9.0, (
        Event(2.0, "planned move to cellular", _on(Stage.move, "cellular")),
        Event(4.0, "cable pulled", _on(Stage.pull, "cellular")),
    ), traffic=("called",))  # fmt: skip


def demo() -> Scenario:
    """Everything that happens in life, one after the other."""
    arrive = _on(lambda stage, name: stage.arrive(name), "wifi")
    return Scenario("demo", "SSH, a download and a voice call through everything that happens in life", 72.0, (
        Event(4.0, "planned move", lambda stage: stage.move_away()),
        Event(8.0, "planned move", lambda stage: stage.move_away()),
        Event(12.0, "cable pulled", _on(Stage.pull)),
        Event(17.0, "cables are back", _all(lambda stage: stage.plug("wifi"), lambda stage: stage.plug("cellular"))),
        Event(21.0, "falls silent, nobody is told", _on(Stage.silence)),
        Event(26.0, "works again", _all(lambda stage: stage.heal("wifi"), lambda stage: stage.heal("cellular"))),
        Event(30.0, "other address", _on(Stage.readdress)),
        Event(34.0, "other gateway", _on(Stage.regateway)),
        Event(38.0, "NAT forgets, other ports", _on(lambda stage, name: stage.rebind(name))),
        Event(42.0, "loses 5 % of all packets", _on(lambda stage, name: stage.lose(name, 0.05))),
        Event(47.0, "works well again", _all(lambda stage: stage.heal("wifi"), lambda stage: stage.heal("cellular"))),
        Event(50.0, "all networks leave", lambda stage: stage.leave()),
        Event(56.0, "one network arrives", arrive),
        Event(60.0, "the other one too", _on(lambda stage, name: stage.arrive(name), "cellular")),
        Event(63.0, "host sleeps, NATs forget", lambda stage: stage.suspend()),
        Event(67.0, "host wakes up", lambda stage: stage.resume()),
    ), Limits(), traffic=("ssh", "download", "voice"))  # fmt: skip


POLICIES = """
[network.wifi]
kind = "wifi"

[network.cellular]
kind = "cellular"
cost = "metered"

[[policy]]
application = "call"
networks = ["wifi", "ethernet", "cellular"]
require = { loss = "2%", rtt = "150ms" }

[[policy]]
application = "ssh"
networks = ["ethernet", "wifi", "cellular"]

[[policy]]
application = "backup"
networks = ["ethernet", "wifi"]
otherwise = "hold"
"""


def applications() -> Scenario:
    """Give a call, a shell, a download and a backup rules of their own, and let the networks change."""
    return Scenario(
        "applications", "a call, a shell, a download and a backup: each goes where its rule says", 30.0, (
            Event(3.0, "cable pulled", _on(Stage.pull, "ethernet")),
            Event(8.0, "loses 10 % of all packets", _on(lambda stage, name: stage.lose(name, 0.1), "wifi")),
            Event(13.0, "falls silent, nobody is told", _on(Stage.silence, "wifi")),
            Event(19.0, "cable back", _on(Stage.plug, "ethernet")),
        ), Limits(doubled=0), traffic=("voice", "ssh", "download", "upload"), access=(ETHERNET, WIFI, CELLULAR),
        settings=POLICIES, run_as={"voice": "call", "upload": "backup"}, expected=(
            *(Expected(0, name, ("wifi",)) for name in ("call", "ssh", "curl", "backup")),
            Expected(1, "call", ("cellular",)),
            Expected(1, "backup", ("wifi",), 0.0), Expected(1, "ssh", ("wifi",), 0.0),
            Expected(2, "call", ("cellular",), 0.0), Expected(2, "backup", (HELD,)),
            Expected(2, "ssh", ("cellular",)), Expected(2, "curl", ("cellular",)),
            *(Expected(3, name, ("ethernet",), 8.0) for name in ("call", "ssh", "curl", "backup")),
        ),
    )  # fmt: skip


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "planned": planned, "link-pulled": link_pulled, "silent-death": silent_death, "address-changed": address_changed,
    "gateway-changed": gateway_changed, "nat-rebinding": nat_rebinding,
    "new-network-after-none": new_network_after_none, "both-lost-and-back": both_lost_and_back, "lossy": lossy,
    "suspend": suspend, "anchor-killed": anchor_killed, "anchor-restarted": anchor_restarted,
    "datapath-killed": datapath_killed, "unequal-delay": unequal_delay, "called": called,
    "applications": applications, "demo": demo,
}  # fmt: skip
"""By name; the makers' arguments are what a caller may vary."""
LASTING: dict[str, Callable[[float], Scenario]] = {
    "both-lost-and-back": both_lost_and_back, "lossy": lossy, "suspend": suspend,
}  # fmt: skip
"""Scenarios whose essential time can be chosen."""
