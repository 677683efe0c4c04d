"""What the page's menus order, seen in the real data path, and taken back by the page's Undo.

mh ==wifi==\
            an --- ch     "call" at mh talks to ch; "asker" asks ch which address it comes from
mh ==cell==/
"""

import sys
import time

import pytest
from playwright.sync_api import Page

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from tests.browser import apps
from tests.browser.picture import carried, lane, thread
from tests.browser.talk import until

pytestmark = pytest.mark.net

PORT = 7002
SERVE = f"""
import socket
server = socket.create_server(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    link, (address, _) = server.accept()
    with link:
        link.sendall(address.encode())
"""
ASK = f"""
import socket, sys
try:
    link = socket.create_connection((sys.argv[1], {PORT}), 2)
    print(link.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module", autouse=True)
def _talking(daemons: Daemons) -> None:
    apps.answer(daemons)
    apps.start(daemons, "call", connections=2, up=80_000)
    daemons.lab.start(topology.CORRESPONDENT, "whoami", [sys.executable, "-c", SERVE]).wait_for("ready", 10)


def comes_from(daemons: Daemons, name: str) -> str:
    """Let an application connect anew; return the address that the correspondent sees, or the error that it gets."""
    return daemons.command(
        topology.MOBILE_HOST, "run", "--socket", str(daemons.host_socket), "--app", name, "--",
        sys.executable, "-c", ASK, daemons.lab.topology.correspondent.address,
    ).strip()  # fmt: skip


def choose(page: Page, network: str, app: str, item: str) -> None:
    """Choose something from the menu of a thread."""
    thread(page, network, app).locator(".line > .more").click()
    page.get_by_role("menuitem", name=item).click()


def undo(page: Page) -> None:
    """Take the last order back by the menu: the message's own Undo is gone after some seconds."""
    page.locator("button.everything").click()
    page.get_by_role("menuitem", name="Undo the last order").click()
    page.get_by_text("Taken back").last.wait_for()


def silent(daemons: Daemons, *networks: str) -> bool:
    """Say whether (next to) nothing leaves by networks for half a second: "call" sends 10 kB in that."""
    before = {name: carried(daemons, name) for name in networks}
    time.sleep(0.5)
    return all(carried(daemons, name) - before[name] < 2_000 for name in networks)


def test_hold_and_block_stop_every_byte_and_undo_lets_them_go_on(page: Page, daemons: Daemons) -> None:
    anchor = daemons.lab.topology.anchor.address
    assert comes_from(daemons, "call") == anchor
    choose(page, "wifi", "call", "Hold")
    until(lambda: silent(daemons, "wifi", "cellular"))
    assert comes_from(daemons, "call") == "TimeoutError", "it waits, and is told nothing"
    assert comes_from(daemons, "other") == anchor
    undo(page)
    until(lambda: not silent(daemons, "wifi"))
    thread(page, "wifi", "call").wait_for()
    choose(page, "wifi", "call", "Block")
    until(lambda: comes_from(daemons, "call") in ("ConnectionRefusedError", "PermissionError"))
    assert silent(daemons, "wifi", "cellular")
    undo(page)
    until(lambda: comes_from(daemons, "call") == anchor)


def test_direct_goes_past_the_anchor_from_the_next_connection_on(page: Page, daemons: Daemons) -> None:
    mail = apps.start(daemons, "mail")
    anchor = daemons.lab.topology.anchor.address
    assert comes_from(daemons, "mail") == anchor
    choose(page, "wifi", "mail", "Send direct")
    page.get_by_text("past the tunnels").first.wait_for()
    until(lambda: comes_from(daemons, "mail") != anchor)
    assert comes_from(daemons, "mail").count(".") == 3, "an address of the access network's own NAT"
    assert comes_from(daemons, "call") == anchor
    undo(page)
    until(lambda: comes_from(daemons, "mail") == anchor)
    mail.stop()


def test_pinned_it_stays_against_the_rules_until_it_is_given_back(page: Page, daemons: Daemons) -> None:
    apps.start(daemons, "song", up=80_000)
    choose(page, "wifi", "song", "Pin to wifi")
    thread(page, "wifi", "song").locator(".mark:visible").wait_for()
    daemons.append(topology.MOBILE_HOST, '\n[[policy]]\napplication = ["song", "call"]\nnetworks = ["cellular"]\n')
    daemons.call("policy_reload")
    until(lambda: apps.networks_of(daemons, "call") == {"cellular"})
    assert apps.networks_of(daemons, "song") == {"wifi"}
    assert not silent(daemons, "wifi")
    choose(page, "wifi", "song", "Back to the policies")
    until(lambda: apps.networks_of(daemons, "song") == {"cellular"})
    until(lambda: silent(daemons, "wifi"))


@pytest.mark.parametrize(
    ("item", "state", "back"), [("Pause", "paused", "Resume"), ("Exclude", "excluded", "Include again")]
)
def test_a_network_that_is_put_aside_carries_nothing_until_it_is_taken_back(
    page: Page, daemons: Daemons, item: str, state: str, back: str
) -> None:
    def of_lane(word: str) -> None:
        lane(page, "cellular").locator(".lane-title .more").click()
        page.get_by_role("menuitem", name=word).click()

    daemons.call("handover", to="cellular", all=True)
    until(lambda: not silent(daemons, "cellular"))
    of_lane(item)
    page.locator(f'.lane[data-network="cellular"][data-state="{state}"]').wait_for()
    until(lambda: not silent(daemons, "wifi"))
    assert silent(daemons, "cellular")
    undo(page)
    until(lambda: daemons.network_states().get("cellular") == "up", 20)
    of_lane(item)
    page.locator(f'.lane[data-network="cellular"][data-state="{state}"]').wait_for()
    of_lane(back)
    until(lambda: daemons.network_states().get("cellular") == "up", 20)
    page.locator('.lane[data-network="cellular"][data-state="up"]').wait_for()
