"""The scene of the handover tests: a laptop with Wi-Fi (20 ms round trip) and cellular (60 ms), and two calls."""

from tests.harness.call import Call
from tests.harness.fakenet import Wire
from tests.harness.pair import Laptop, World

WIFI_RTT, CELLULAR_RTT = 0.02, 0.06


def wifi(**more: float) -> Wire:
    return Wire("wifi", delay=WIFI_RTT / 2, **more)  # type: ignore[arg-type]


def cellular(**more: float) -> Wire:
    return Wire("cellular", address="10.64.0.7", public="198.51.100.99", delay=CELLULAR_RTT / 2, **more)  # type: ignore[arg-type]


def associated(*networks: str, world: World | None = None, forgets_after: float = float("inf")) -> tuple[World, Laptop]:
    """Return a world with a laptop that is on these networks since some seconds."""
    world = world or World()
    laptop = world.laptop(wifi(forgets_after=forgets_after), cellular(forgets_after=forgets_after))
    for name in networks:
        laptop.plug(name)
    world.run(3.0)
    world.transcript.take()
    return world, laptop


def calls(world: World, laptop: Laptop, seconds: float) -> tuple[Call, Call]:
    """Let two calls go on for some time from now: one that the laptop began, one that its correspondent did."""
    out, in_ = Call(world, laptop, 4000), Call(world, laptop, 4002, begun_by_correspondent=True)
    for call in (out, in_):
        call.talk(seconds)
    world.run(1.0)
    for call in (out, in_):
        call.mark()
    return out, in_


def is_upkeep(line: str) -> bool:
    return " over " in line or line.startswith("anchor: ")


def told(world: World) -> list[str]:
    """Return the transcript since the last look, but for the upkeep of the association."""
    return [line for line in world.transcript.take() if not is_upkeep(line)]


def upkeep(world: World) -> list[str]:
    """Return the association's half of it."""
    return [line for line in world.transcript.take() if is_upkeep(line)]


def nothing_was_refused(world: World) -> bool:
    return not any(node.forwarder.refused for node in world.net.nodes)
