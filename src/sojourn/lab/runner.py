"""Runs a scenario: builds the lab, starts Sojourn and the traffic, carries out the events, and judges.

Progress goes to an `Observer`, which prints or draws it; the runner itself prints nothing.
"""

import sys
import time
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.namespaces import LabError
from sojourn.lab.places import Place, Places, reasons
from sojourn.lab.processes import now
from sojourn.lab.report import Happened, Result, build
from sojourn.lab.scenarios import Scenario
from sojourn.lab.stage import Stage
from sojourn.lab.topology import Lab, Topology
from sojourn.lab.traffic import ECHO_PORT, EXPOSED_PORT, GRACE, Stream, Traffic

START_TIMEOUT = 20.0
LEAD = 1.0
"""Seconds of traffic around the run itself, half of them before."""
START_MARGIN = 2.0
"""Seconds that may lie between the first and the last client's start."""
SAMPLE_EVERY = 0.25
TICK = 0.1


class Moment(Struct, frozen=True):
    """How things stand during a run."""

    elapsed: float
    streams: list[Stream]
    stage: Stage
    start: float


class Observer(Protocol):
    """Who is told what happens while it happens."""

    def step(self, text: str) -> None:
        """Take note of a step of preparation or clearing up."""
        ...

    def happened(self, event: Happened) -> None:
        """Take note of an event that was just carried out."""
        ...

    def tick(self, moment: Moment) -> None:
        """Look at how things stand; called about ten times a second."""
        ...


class Run:
    """One scenario in one lab, which is removed at the end, whatever happens.

    `slack_ms` is added to every limit in time, for machines that others use, too; `grace` is how many seconds
    flows may take to end after their time.
    """

    def __init__(
        self, scenario: Scenario, prefix: str, observer: Observer, *, sojourn: bool = True, slack_ms: float = 0.0,
        grace: float = GRACE,
    ) -> None:  # fmt: skip
        self.scenario = scenario
        self.lab = Lab(Topology(prefix=prefix, access=scenario.access))
        self._observer = observer
        self._sojourn = sojourn
        self._slack_ms = slack_ms
        self._grace = grace
        self._happened: list[Happened] = []
        self._places = Places()
        self._sampled = 0.0

    def run(self) -> Result:
        """Do it all, and return the result; LabError when it could not even begin."""
        try:
            return self._run()
        finally:
            self._observer.step("removing the lab")
            self.lab.down()

    def _run(self) -> Result:
        scenario = self.scenario
        self._observer.step(f"building the lab in namespaces {self.lab.topology.prefix}-*")
        self.lab.down()
        self.lab.up()
        daemons: Daemons | None = None
        if self._sojourn:
            daemons = self._start_sojourn()
        else:
            self._manage_routes()
        self._observer.step(f"starting traffic: {', '.join(scenario.traffic)}")
        stage = Stage(self.lab, daemons)
        run_as = {kind: _run_as(name, daemons) for kind, name in scenario.run_as.items()} if daemons else {}
        traffic = Traffic(self.lab, scenario.traffic, scenario.seconds + LEAD + START_MARGIN, run_as=run_as)
        stage.watched_pid = traffic.client_pid
        self._await_traffic(traffic)
        start = now()
        end = start + scenario.seconds
        self._events(stage, traffic, start, end)
        self._observer.step("waiting for the last bytes")
        stage.sample()
        traffic.finish(self._grace)
        return build(
            scenario, sojourn=self._sojourn, start=start, end=end, streams=traffic.streams, happened=self._happened,
            conditions=stage.conditions, samples=stage.samples, slack_ms=self._slack_ms,
            places=self._explained(daemons, start), used=self._places.used,
        )  # fmt: skip

    def _start_sojourn(self) -> Daemons:
        self._observer.step("starting the anchor and the mobile host")
        daemons = Daemons(self.lab)
        daemons.set_up()
        if "called" in self.scenario.traffic:
            daemons.append(
                topology.ANCHOR,
                f'\n[[expose]]\nhost = "{HOST_NAME}"\nport = "tcp/{ECHO_PORT}"\nas = {EXPOSED_PORT}\n',
            )
        daemons.append(topology.MOBILE_HOST, self.scenario.settings)
        daemons.start()
        return daemons

    def _manage_routes(self) -> None:
        # Without Sojourn the host shall at least use the network that has a carrier, as under a network manager.
        mobile_host = self.lab.namespace(topology.MOBILE_HOST)
        namespaces.sysctl(mobile_host, net__ipv4__conf__all__ignore_routes_with_linkdown=1)

    def _await_traffic(self, traffic: Traffic) -> None:
        until = time.monotonic() + START_TIMEOUT
        while not traffic.started():
            if time.monotonic() > until:
                silent = [stream.name for stream in traffic.streams if not stream.arrivals]
                traffic.finish(0.0)
                raise LabError(f"no traffic on {', '.join(silent)} within {START_TIMEOUT:g} s")
            time.sleep(0.02)
        time.sleep(LEAD / 2)

    def _events(self, stage: Stage, traffic: Traffic, start: float, end: float) -> None:
        for event in (*self.scenario.events, None):
            due = end if event is None else start + event.at
            while now() < due:
                time.sleep(max(0.0, min(TICK, due - now())))
                self._look(stage, traffic, start)
            if event is not None:
                at = now()
                detail = event.do(stage)
                text = f"{event.text} ({detail})" if detail else event.text
                self._happened.append(Happened(at - start, text, now() - at))
                self._observer.happened(self._happened[-1])

    def _look(self, stage: Stage, traffic: Traffic, start: float) -> None:
        at = now()
        if at - self._sampled >= SAMPLE_EVERY:
            self._sampled = at
            stage.sample()
            if self.scenario.expected and stage.daemons is not None:
                self._places.take(now() - start, stage.daemons.call("flows"))
        traffic.follow()
        self._observer.tick(Moment(at - start, traffic.streams, stage, start))

    def _explained(self, daemons: Daemons | None, start: float) -> Sequence[Place]:
        if daemons is not None and self.scenario.expected:
            offset = time.time() - now() + start  # noqa: TID251 - the log is for people
            self._places.explain(reasons((daemons.host_folder / "host.log").read_bytes().splitlines(), offset))
        return self._places.history


def _run_as(name: str, daemons: Daemons) -> list[str]:
    socket = str(daemons.host_socket)
    return [sys.executable, "-m", "sojourn", "run", "--socket", socket, "--app", name, "--"]
