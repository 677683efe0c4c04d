"""Fixtures: a lab with the real daemons, the window of its host, and Chromium in the host's network namespace.

mh ==wifi==\
  |          an --- ch       `window`: `sojourn window` at mh; `page`: Chromium at mh, at its address
mh ==cell==/

Chromium is Debian's own, driven by Playwright. It runs inside the namespace of the mobile host, where the window
listens on 127.0.0.1; Playwright reaches it over a pipe.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology, own_prefix
from tests.browser import apps
from tests.browser.talk import until
from tests.browser.window import Window
from tests.net.conftest import PREFIX, check_rights, missing_feature

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def chromium() -> str:
    """Return Debian's Chromium; a machine without it is not set up."""
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("chromium is not installed: `make test` installs it", pytrace=False)
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    feature = missing_feature()
    if feature is not None:
        pytest.skip(f"this kernel has no {feature}")
    check_rights()
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def lab(playwright: Playwright) -> Iterator[Lab]:
    """One lab for all: it takes seconds to build."""
    lab = Lab(Topology(prefix=own_prefix(PREFIX)))
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def running(lab: Lab) -> Daemons:
    """An anchor and a host that is associated, both networks tested."""
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.start()
    return daemons


@pytest.fixture(scope="module")
def daemons(running: Daemons) -> Iterator[Daemons]:
    """The same for every module, and put back as it was after each: its applications, rules, orders and networks."""
    file = running.host_folder / "host.toml"
    text, before = file.read_bytes(), len(running.lab.children)
    yield running
    for child in running.lab.children[before:]:
        child.stop()
    file.write_bytes(text)
    running.call("policy_reload")
    for link in running.lab.links.values():
        link.set_carrier(True)
    until(lambda: running.network_states().keys() >= running.lab.links.keys(), 20)
    for name in running.lab.links:
        running.call("network_use", network=name, use="on")
    running.wait_until_associated()


@pytest.fixture(scope="session")
def window(lab: Lab, running: Daemons) -> Iterator[Window]:
    """`sojourn window` of the host."""
    window = Window(lab, topology.MOBILE_HOST, running.host_socket)
    yield window
    window.stop()


def launch(playwright: Playwright, lab: Lab, folders: pytest.TempPathFactory, *flags: str) -> Browser:
    """Start Chromium in the mobile host's namespace."""
    wrapper = folders.mktemp("chromium") / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {lab.namespace(topology.MOBILE_HOST)} {chromium()} "$@"\n')
    wrapper.chmod(0o755)
    return playwright.chromium.launch(
        executable_path=str(wrapper), headless=True, args=[*FLAGS, *flags], env=_environment()
    )


@pytest.fixture(scope="session")
def browser(playwright: Playwright, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium in the mobile host's namespace."""
    browser = launch(playwright, lab, tmp_path_factory)
    yield browser
    browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own for each test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture(autouse=True)
def _orders(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take back what a test has ordered: the next one, and the same one tried again, begins as it did."""
    yield
    if "daemons" in request.fixturenames:
        apps.release(request.getfixturevalue("daemons"))


@pytest.fixture
def page(context: BrowserContext, window: Window, daemons: Daemons) -> Page:
    """The window's page, connected: its first snapshot is there."""
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(window.address)
    page.locator("[data-network]").first.wait_for()
    assert not faults
    return page


def _environment() -> dict[str, str | float | bool]:
    """Keep what Chromium needs of our environment; nothing of a desktop."""
    kept = {name: value for name, value in os.environ.items() if re.match(r"PATH|HOME|LANG|TMPDIR|TZ", name)}
    return {**kept, "HOME": str(Path("/tmp"))}
