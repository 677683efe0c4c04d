"""The anchor's window before a real anchor: an association ends and comes back, a join token is one."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from sojourn.api.client import Client
from sojourn.control import token
from sojourn.lab import topology
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Lab
from tests.browser.talk import until
from tests.browser.window import Window

pytestmark = pytest.mark.net


@pytest.fixture
def anchor(lab: Lab, daemons: Daemons, context: BrowserContext) -> Iterator[Page]:
    """The anchor's page; the browser of the lab is in the host's namespace, and so is this window."""
    window = Window(lab, topology.MOBILE_HOST, daemons.anchor_socket)
    page = context.new_page()
    page.goto(window.address)
    page.get_by_role("heading", name=HOST_NAME).wait_for()
    yield page
    window.stop()


def test_an_association_ends_at_the_owner_s_word_and_the_host_comes_back(anchor: Page, daemons: Daemons) -> None:
    def events() -> list[str]:
        entries = Client(str(daemons.anchor_socket)).stream("log", limit=100)
        return [entry["event"] for entry in entries if entry["network"] == HOST_NAME]

    before = events().count("ended")
    anchor.get_by_role("button", name=f"What to do with {HOST_NAME}").click()
    anchor.get_by_role("menuitem", name="End the association").click()
    anchor.get_by_role("button", name="End it").click()
    anchor.get_by_text("is no longer associated").first.wait_for()
    until(lambda: events().count("ended") > before)
    until(lambda: "associated" in events()[-events()[::-1].index("ended") :])
    until(lambda: daemons.call("status")["state"] == "associated")


def test_a_token_made_in_the_page_lets_one_host_join(anchor: Page, daemons: Daemons) -> None:
    anchor.get_by_role("button", name="Make a join token").click()
    anchor.get_by_label("Name of the new host").fill("tablet")
    anchor.get_by_role("button", name="Make a token").click()
    command = anchor.locator(".token code").inner_text()
    assert anchor.get_by_alt_text("The join token as a QR code").is_visible()
    assert token.parse(command.removeprefix("sudo sojourn join ")).user == "tablet"
    rows = {row["name"]: row["state"] for row in Client(str(daemons.anchor_socket)).call("hosts")}
    assert rows["tablet"] == "invited"
