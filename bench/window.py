"""The window's two figures, in real Chromium: `python -m bench.window`, as root, about a minute.

- 1,000 flows at 60 updates a second, the thread of 50 flows open: the longest task of the page's main thread, by the
  clock and of the processor (50 ms asked), in three rounds of `SECONDS`;
- a network is pulled in the lab: until the page shows it as not working and the flow in another lane (200 ms asked), in
  `PULLS` pulls, from before the carrier goes.
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
from tests.browser.figures import watched
from tests.browser.talk import place, talking, until
from tests.browser.test_live import pulled
from tests.browser.window import Window
from tests.window.served import TOKEN, window

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
        rounds = []
        for _ in range(ROUNDS):
            before = crowd.told
            tasks = watched(browser, page, SECONDS * 1000)
            longest = max(tasks, key=lambda task: task.clock)
            rounds.append({
                "updates_a_second": round((crowd.told - before) / SECONDS),
                "longest_ms": round(longest.clock, 1),
                "longest_processor_ms": round(max(task.processor for task in tasks), 1),
                "over_50_ms": sum(task.clock > 50 for task in tasks),
                "share_of_a_processor": round(sum(task.processor for task in tasks) / SECONDS / 1000, 3),
                "longest_was": longest.parts,
            })  # fmt: skip
        browser.close()
    return {"flows": 1000, "rounds": rounds}


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
            took = []
            for _ in range(PULLS):
                until(lambda: place(daemons, flow))
                took.append(round(pulled(page, daemons, flow) * 1000))
        browser.close()
        shown.stop()
    finally:
        lab.down()
    return {"ms": took, "median_ms": statistics.median(took), "longest_ms": max(took)}


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
