"""The window's two figures, in real Chromium: `python -m bench.window`, as root, about a minute.

- 1,000 flows at 60 updates a second, the thread of 50 flows open: the longest task of the page's main thread (50 ms
  asked), in three rounds of `SECONDS`. `own` is the processor time of tasks: the page's doing. `clock` is how long they
  took: with what the machine gave to others meanwhile, which is told beside, as the kernel counts it (`waited`). In
  each round are the longest task by either, and the sums of all tasks;
- a network is pulled in the lab: until the page shows it as not working and the flow in another lane (200 ms asked), in
  `PULLS` pulls, from before the carrier goes. `why` is what the daemon knew it by: the kernel's word, or silence.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import Playwright, sync_playwright
from tests.browser.conftest import FLAGS, chromium
from tests.browser.crowd import APPLICATIONS, Crowd
from tests.browser.figures import Task, waited, watched
from tests.browser.talk import place, talking, until
from tests.browser.test_live import pulled
from tests.browser.window import Window
from tests.window.served import TOKEN, window

from sojourn.api.client import Client
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology, own_prefix

ROUNDS = 3
SECONDS = 6.0
PULLS = 10


def crowded(playwright: Playwright, folder: Path) -> dict[str, Any]:
    """Return what the page's tasks take before a thousand flows."""
    crowd = Crowd(1000, updates=60.0)
    browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=list(FLAGS))
    with window(folder, crowd.setup) as served:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"http://127.0.0.1:{served.port}/#token={TOKEN}")
        page.locator(".thread").nth(APPLICATIONS - 1).wait_for()
        page.locator('.thread[data-app="app-3"] .grip').click()
        page.wait_for_timeout(2000)
        thread = watched(browser, page, 500)[0].thread
        rounds = []
        for _ in range(ROUNDS):
            before, stood = crowd.told, waited(thread)
            tasks = watched(browser, page, SECONDS * 1000)
            own, clock = [task.processor for task in tasks], [task.clock for task in tasks]
            rounds.append({
                "updates_a_second": round((crowd.told - before) / SECONDS),
                "longest_by_own": told_of(max(tasks, key=lambda task: task.processor)),
                "longest_by_clock": told_of(max(tasks, key=lambda task: task.clock)),
                "over_50_ms": {"own": sum(one > 50 for one in own), "clock": sum(one > 50 for one in clock)},
                "all_ms": {"own": round(sum(own)), "clock": round(sum(clock)), "waited": round(waited(thread) - stood)},
            })  # fmt: skip
        browser.close()
    return {"flows": 1000, "rounds": rounds}


def told_of(task: Task) -> dict[str, Any]:
    """Return what is printed of a task."""
    return {"own_ms": round(task.processor, 1), "clock_ms": round(task.clock, 1), "parts": task.parts}


def followed(playwright: Playwright, folder: Path) -> dict[str, Any]:
    """Return after how many ms the page has followed each pull."""
    lab = Lab(Topology(prefix=own_prefix("sjw")))
    try:
        lab.up()
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        shown = Window(lab, topology.MOBILE_HOST, daemons.host_socket)
        wrapper = folder / "chromium"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {lab.namespace(topology.MOBILE_HOST)} {chromium()} "$@"\n')
        wrapper.chmod(0o755)
        browser = playwright.chromium.launch(executable_path=str(wrapper), headless=True, args=list(FLAGS))
        with talking(lab, daemons) as flow:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(shown.address)
            pulls, took = [], []
            for _ in range(PULLS):
                network = until(lambda: place(daemons, flow))
                took.append(round(pulled(page, daemons, flow) * 1000))
                pulls.append({"ms": took[-1], "network": network, "why": why_lost(daemons, network)})
        browser.close()
        shown.stop()
    finally:
        lab.down()
    return {"pulls": pulls, "median_ms": statistics.median(took), "longest_ms": max(took)}


def why_lost(daemons: Daemons, network: str) -> str | None:
    """Return by what the daemon noticed that a network was lost last: the first that it wrote down then."""
    found = None
    for one in reversed(list(Client(str(daemons.host_socket)).stream("log", limit=100))):
        if one["network"] == network and one["event"] in ("gone", "silent"):
            found = str(one["reason"])
        elif found is not None and one["network"] == network and one["event"] == "works":
            break
    return found


def main() -> int:
    """Print both as JSON."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        told = {
            "load": os.getloadavg()[0],
            "crowd": crowded(playwright, Path(folder)),
            "pulled": followed(playwright, Path(folder)),
        }
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(told)).decode() + "\n")
    return 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("the lab makes network namespaces: run it as root")
    sys.exit(main())
