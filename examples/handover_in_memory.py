"""A call moves from Wi-Fi to cellular and back, and then the Wi-Fi dies: all of Sojourn but the kernel, in one process.

    .venv/bin/python -m examples.handover_in_memory

Needs no root, and hardly any time, since its clock is virtual. Control and data path of both ends are the real
ones; the net between them is `tests/harness/fakenet.py`. Printed is what they say to each other, with the time
since the event, and what became of the call.
"""

from collections.abc import Callable

from tests.harness.call import Call
from tests.harness.fakenet import Wire
from tests.harness.pair import World


def main() -> None:
    """Associate, talk, and move three times."""
    wifi = Wire("wifi", delay=0.01)
    cellular = Wire("cellular", address="10.64.0.7", public="198.51.100.99", delay=0.03)
    world = World()
    laptop = world.laptop(wifi, cellular)
    laptop.plug("wifi")
    laptop.plug("cellular")
    world.run(3.0)
    print(world.transcript)
    call = Call(world, laptop)
    show(world, call, "Both networks work; the user moves everything to cellular.", lambda: laptop.order("cellular"))
    show(world, call, "Back to Wi-Fi, ...", lambda: laptop.order("wifi"))
    show(world, call, "... which now drops every packet and says nothing.", lambda: setattr(wifi, "dead", True))


def show(world: World, call: Call, what: str, event: Callable[[], None]) -> None:
    """Let something happen in the middle of a talk, and look at the two seconds around it."""
    print(f"\n{what}")
    call.talk(3.0)
    world.run(1.0)
    call.mark()
    world.run(1.0)
    seen, began = len(world.transcript.lines), world.net.now
    event()
    world.run(1.5)
    for at, line in world.transcript.lines[seen:]:
        print(f"{at - began:9.3f}  {line}")
    for direction, up in (("from the laptop", True), ("to the laptop", False)):
        fate = call.fate(up=up)
        print(f"{'':9}  call {direction}: {fate.lost} of 100 packets lost, longest gap {fate.gap * 1000:.0f} ms")


if __name__ == "__main__":
    main()
