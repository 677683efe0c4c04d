"""A call over two networks at once (`copies = 2`), one of which dies while nobody is told.

Every packet travels over both, so the death loses nothing and is not waited for: the longest gap is the sender's own
unevenness, not the time that it takes to notice silence.
"""

from sojourn.lab.scenarios import Event, Limits, Scenario
from sojourn.lab.stage import Stage

RULES = """
[[policy]]
name = "call"
protocol = "udp"
networks = ["wifi", "cellular"]
copies = 2
"""
GAP_MS = 40.0
"""Two packet intervals and the scheduling of the lab's processes: a silence takes 175 ms to be noticed."""


def copied(network: str = "wifi", death: float = 5.0, seconds: float = 9.0) -> Scenario:
    """Return a call of some seconds, and the silent death of one of its networks after `death` seconds.

    A network that has just come is copied over after a second of good work, so the death is not to be earlier.
    """

    def silence(stage: Stage) -> str:
        stage.silence(network)
        return network

    def count(stage: Stage) -> str | None:
        if stage.daemons is None:
            return None
        copies = stage.daemons.status()["copies"]
        return f"{copies['sent']} copies sent, {copies['dropped']} dropped"

    return Scenario(
        "copied", f"a call over two networks at once, and {network} dies silently: nothing is lost or doubled", seconds,
        (Event(death, "network falls silent", silence), Event(seconds - 0.5, "the call ends", count)),
        Limits(gap_ms=GAP_MS, lost=0, doubled=0), ("voice",), settings=RULES,
    )  # fmt: skip
