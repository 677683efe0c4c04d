"""A spliced session without a leg becomes a relayed one: its correspondent's connection is a socket's again.

The program goes on telling the correspondent to wait until the socket stands: a packet in between would be answered
by RST.
"""

from msgspec import Struct

from sojourn.linux import tcp_repair, tcp_state
from sojourn.linux.splice import Spliced
from sojourn.msocks.splice_pair import CLIENT, CORRESPONDENT, HalfFlag


class Standing(Struct, frozen=True):
    """Where the streams stand, for a relay that takes them over."""

    missing: bytes
    """Of the correspondent's: to be said to the client before anything that comes."""
    finished: bool
    """The correspondent has finished, and will not say so again."""


def unsplice(joint: Spliced, position: int, received: int) -> Standing:
    """Give the near socket its connection back, at these places of the streams.

    RemoteProtocolError where bytes from `received` on cannot come any more; BlockingIOError where it has to wait: the
    correspondent has not acknowledged what the proxy itself has said. After any other OSError the session is lost.
    """
    pair, missing, finished = joint.take_up(received)
    if pair.halves[CORRESPONDENT].flags & HalfFlag.OWN:
        raise BlockingIOError("the correspondent has not all that the proxy has said")
    at = joint.numbers_at(position, received + len(missing) + finished)
    tcp_repair.park(joint.near, at)
    tcp_repair.revive(joint.near, at, joint.kept.near, pair.halves[CLIENT].ts_last)
    joint.let_go()
    tcp_state.prepare(joint.near)
    return Standing(missing, finished)
