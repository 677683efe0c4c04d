"""Takes the pictures of the window that the README and the guide show: `python -m scripts.screenshots`, as root.

A lab with three networks, an anchor, a host, programs that talk, and Chromium in the host's namespace; two minutes, of
which one passes so that the charts have something to show. What is seen is what the daemons did: nothing is made up but
the names of networks and programs. Needs what `make browser` needs, and looks best where fonts-inter is installed.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, ViewportSize, sync_playwright
from tests.browser import apps
from tests.browser.conftest import FLAGS, chromium
from tests.browser.window import Window

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import CELLULAR, ETHERNET, WIFI, Lab, Topology, own_prefix

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "img"
NETWORKS = """
[network.ethernet]
kind = "ethernet"
[network.wifi]
kind = "wifi"
[network.cellular]
kind = "cellular"
cost = "metered"
cap = "5GB"

[[policy]]
application = "zoom"
networks = ["ethernet", "wifi", "cellular"]
require = { rtt = "250ms" }

[[policy]]
application = "backup"
networks = ["wifi", "ethernet"]    # never cellular
otherwise = "hold"

[[policy]]
application = "spotify"
networks = ["wifi", "cellular"]
"""
PROGRAMS = (
    ("zoom", 2, 900e3, 900e3), ("firefox", 12, 120e3, 10e3), ("ssh", 2, 3e3, 2e3), ("backup", 1, 20e3, 1.5e6),
    ("spotify", 1, 320e3, 5e3), ("thunderbird", 3, 2e3, 1e3), ("signal", 1, 30e3, 30e3),
)  # fmt: skip
LATER = 60.0
"""Seconds that pass between the moves and the pictures of the past."""


@contextlib.contextmanager
def stage() -> Iterator[tuple[Daemons, Window, Window]]:
    """Build the lab, start everything, and remove it afterwards."""
    lab = Lab(Topology(prefix=own_prefix("shots"), access=(ETHERNET, WIFI, CELLULAR)))
    try:
        lab.up()
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.append(topology.MOBILE_HOST, NETWORKS)
        daemons.start()
        apps.answer(daemons)
        for name, connections, down, up in PROGRAMS:
            apps.start(daemons, name, connections, down, up)
        host = Window(lab, topology.MOBILE_HOST, daemons.host_socket)
        anchor = Window(lab, topology.ANCHOR, daemons.anchor_socket, "--anchor")
        yield daemons, host, anchor
        for window in (host, anchor):
            window.stop()
    finally:
        lab.down()


def save(page: Page, name: str) -> None:
    """Take a picture of what is seen, without what it does not need."""
    file = PICTURES / f"{name}.png"
    page.screenshot(path=str(file))
    Image.open(file).convert("RGB").save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1000} kB")  # noqa: T201 - a script's output


def opened(browser: Browser, window: Window, *, dark: bool = False, width: int = 1280, height: int = 800) -> Page:
    """Open a window's page."""
    size: ViewportSize = {"width": width, "height": height}
    page = browser.new_context(viewport=size, color_scheme="dark" if dark else "light").new_page()
    page.goto(window.address)
    page.locator("main[class^=part-]").wait_for()
    return page


def show(page: Page, part: str) -> None:
    """Show another part of the page."""
    page.evaluate(f"location.hash = '#/{part}'")
    page.locator(f"main.part-{part}").wait_for()
    page.wait_for_timeout(1500)


def carry(page: Page, grip: Locator, lane: Locator) -> None:
    """Drag a thread to a lane."""
    start, end = grip.bounding_box(), lane.bounding_box()
    if start is None or end is None:
        raise SystemExit("what is to be dragged is not on the page")
    page.mouse.move(start["x"] + 40, start["y"] + 10)
    page.mouse.down()
    page.mouse.move(end["x"] + 320, end["y"] + 40, steps=8)
    page.mouse.up()


def moves(page: Page, daemons: Daemons) -> None:
    """Let a call be dragged to cellular, then let the cable be pulled, and take pictures of both."""
    page.wait_for_timeout(20_000)
    grip = page.locator('.lane[data-network="ethernet"] .thread[data-app="zoom"] .grip')
    carry(page, grip, page.locator('.lane[data-network="cellular"]'))
    page.locator('.lane[data-network="cellular"] .thread[data-app="zoom"]').wait_for()
    page.wait_for_timeout(420)
    save(page, "window-drag")
    page.get_by_role("button", name="Undo").click()
    page.mouse.move(4, 400)
    page.wait_for_timeout(14_000)
    daemons.lab.links["ethernet"].set_carrier(False)
    page.locator('.lane[data-network="ethernet"] .ghost').first.wait_for()
    page.wait_for_timeout(480)
    save(page, "window")
    page.wait_for_timeout(3000)
    daemons.lab.links["ethernet"].set_carrier(True)


def others(browser: Browser, host: Window) -> None:
    """Take the pictures of the host's other parts."""
    page = opened(browser, host, height=760)
    show(page, "policies")
    page.locator(".rule-words").first.click()
    page.locator("#field-networks").first.fill("cellular, wifi")
    page.locator("#field-networks").first.blur()
    page.get_by_role("button", name="Test").click()
    page.locator(".tested").wait_for()
    page.wait_for_timeout(500)
    save(page, "window-policies")
    page = opened(browser, host, dark=True, height=860)
    show(page, "past")
    page.get_by_role("button", name="15 min").click()
    page.wait_for_timeout(1500)
    save(page, "window-past")
    page = opened(browser, host, height=640)
    show(page, "log")
    page.locator(".timeline .event.move button").filter(has_text="gap").first.click()
    save(page, "window-log")
    page = opened(browser, host, dark=True, width=380, height=780)
    page.wait_for_timeout(9000)
    save(page, "window-phone")


def anchors(browser: Browser, window: Window) -> None:
    """Take the picture of the anchor's page."""
    page = opened(browser, window, height=820)
    page.wait_for_timeout(2000)
    save(page, "window-anchor")


def main() -> int:
    """Take them all."""
    PICTURES.mkdir(exist_ok=True)
    with stage() as (daemons, host, anchor), sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:

        def browser_in(role: str) -> Browser:
            wrapper = Path(folder) / role
            wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {daemons.lab.namespace(role)} {chromium()} "$@"\n')
            wrapper.chmod(0o755)
            return playwright.chromium.launch(executable_path=str(wrapper), args=list(FLAGS))

        with browser_in(topology.MOBILE_HOST) as browser:
            moves(opened(browser, host), daemons)
            time.sleep(LATER)
            others(browser, host)
        with browser_in(topology.ANCHOR) as browser:
            anchors(browser, anchor)
    return 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("the lab makes network namespaces: run it as root")
    sys.exit(main())
