"""Thousands of sessions whose legs break at random: is every byte right, in both directions, with the splice?

    mh (client without rights, SESSIONS at once) ── nat0, nat1 ── an (proxy) ── ch (peer: random bytes back)

Every session sends random bytes and checks those that come by their hash, as its peer does. Meanwhile, in random order
and with random pauses down to none: all sessions move to the other network or several times in a row, a leg is cut
under way (the NAT forgets and answers with RST), a network is pulled, and (--kills) the proxy is killed and started
again. Ends after --sessions or --seconds; counts what happened; says 1 as exit status when a byte was wrong. A session
is right when both ends have all bytes, and their ends. ("peer's": of some whose client never heard that they began.)
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from typing import Any

from tests.net.socks_lab import PEER_PORT, Dialled, Peer, SocksLab
from tests.net.standing import standing

from bench._bounded import bounded
from bench._ground import machine
from sojourn.api.messages import ApiError
from sojourn.lab.topology import Lab, Topology, own_prefix
from sojourn.msocks.socks5 import Address

PAUSES = (0.0, 0.0005, 0.002, 0.01, 0.05, 0.2)
OUTAGE = 0.3
AT_A_TIME = 4


class Breaker:
    """Breaks what it can reach, by a random number's choice."""

    def __init__(self, place: SocksLab, dice: random.Random, kills: bool) -> None:
        self.place, self.dice, self.kills = place, dice, kills
        self.done: Counter[str] = Counter()
        self.networks = sorted(place.lab.links)
        self._killed_at = time.monotonic()

    def once(self) -> None:
        """Break something."""
        roll = self.dice.random()
        if self.kills and time.monotonic() - self._killed_at > 20.0:
            self._kill()
        elif roll < 0.85:
            for _ in range(self.dice.choice((1, 1, 2, 5))):
                self._move(self.dice.choice(self.networks))
                time.sleep(self.dice.choice(PAUSES))
        elif roll < 0.95:
            self.done["rebound"] += 1
            self.place.lab.links[self.dice.choice(self.networks)].rebind()
        else:
            self._pull(self.dice.choice(self.networks))

    def _move(self, network: str) -> None:
        self.done["orders"] += 1
        try:
            self.place.move(network)
        except ApiError:  # it is pulled, or has not come back yet
            self.done["orders refused"] += 1

    def _pull(self, name: str) -> None:
        link = self.place.lab.links[name]
        self.done["pulled"] += 1
        link.leave()
        time.sleep(self.dice.random() * OUTAGE)
        link.arrive()

    def _kill(self) -> None:
        self.done["kills"] += 1
        self.place.kill_proxy()
        time.sleep(self.dice.random() * OUTAGE)
        self.place.start_proxy()
        self._killed_at = time.monotonic()


def run(
    sessions: int, at_once: int, size: int, seconds: float, *, kills: bool, seed: int, limit: float
) -> dict[str, Any]:
    """Do it, and return the counts."""
    dice = random.Random(seed)
    topology = Topology(prefix=own_prefix("sjm"))
    built = Lab(topology)
    with bounded(limit, built.folder, [built.namespace(role) for role in built.roles]), standing(topology) as lab:
        place = SocksLab(lab)
        place.set_up('anonymous = ["86.0.0.0/24"]\nhold = 600.0\nsplice = true')
        place.peer = Peer(lab)
        place.start_proxy()
        place.start_client()
        assert place.proxy_status()["mode"] == "splice", place.proxy_status()["why"]
        to, live, errors = Address(lab.topology.correspondent.address, PEER_PORT), list[Dialled](), list[str]()
        breaker, begun, right, until = Breaker(place, dice, kills), 0, 0, time.monotonic() + seconds
        while live or (begun < sessions and time.monotonic() < until):
            for one in [one for one in live if one.done.is_set()]:
                live.remove(one)
                right += one.error is None
                errors += [repr(one.error)] if one.error is not None else []
            for _ in range(AT_A_TIME):
                if len(live) >= at_once or begun >= sessions or time.monotonic() >= until:
                    break
                one = place.connect(to)
                if one.code:
                    breaker.done["not opened"] += 1
                    continue
                begun += 1
                one.exchange(10 * begun + seed, dice.randrange(1, size), dice.choice((0.0, 0.02, 0.1)))
                live.append(one)
            breaker.once()
            time.sleep(dice.choice(PAUSES))
        moved = int(place.status()["moved"])
        status = place.proxy_status()
        resumed = int(status["served"].get("resumed", 0))
        place.peer.close()
        return {
            "sessions": begun, "right": right, "wrong": errors, "peer's": [repr(one) for one in place.peer.errors],
            "moves": moved, "resumed_by_the_last_proxy": resumed,
            "done": dict(breaker.done), "refused": status["refused"], "splice": status["splice"],
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=30)
    parser.add_argument("--size", type=int, default=500_000, help="bytes each way, at most")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--limit", type=float, default=330.0, help="seconds after which all ends, done or not")
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    found = run(
        given.sessions, given.at_once, given.size, given.seconds, kills=given.kills, seed=given.seed, limit=given.limit
    )
    print(
        json.dumps({"bench": "socks_moves", **machine(), "seconds": round(time.monotonic() - began), **found}, indent=1)
    )
    sys.exit(bool(found["wrong"]) or found["right"] != found["sessions"])


if __name__ == "__main__":
    main()
