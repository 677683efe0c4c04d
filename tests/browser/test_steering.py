"""Steering in the page, seen in the data path: what the daemon's table says, and the bytes of the interfaces.

mh ==wifi==\
            an --- ch     applications at mh talk to ch: "call" and "backup"
mh ==cell==/
"""

import time

import pytest
from playwright.sync_api import Page

from sojourn.lab.daemons import Daemons
from tests.browser import apps
from tests.browser.picture import carried, drag, lane, thread
from tests.browser.talk import until

pytestmark = pytest.mark.net


@pytest.fixture(scope="module", autouse=True)
def _talking(daemons: Daemons) -> None:
    apps.answer(daemons)
    apps.start(daemons, "call", connections=2, up=80_000)
    apps.start(daemons, "backup")


@pytest.fixture(autouse=True)
def _released(daemons: Daemons) -> None:
    """Every test begins with both applications where `order` puts them."""
    apps.release(daemons)
    until(lambda: apps.networks_of(daemons, "call") == apps.networks_of(daemons, "backup") == {"wifi"})


def test_an_application_dragged_to_a_network_moves_in_the_data_path(page: Page, daemons: Daemons) -> None:
    drag(page, thread(page, "wifi", "call").locator(".grip"), lane(page, "cellular"))
    until(lambda: apps.networks_of(daemons, "call") == {"cellular"})
    thread(page, "cellular", "call").wait_for()
    thread(page, "cellular", "call").get_by_text("from wifi · ordered by the user").wait_for()
    assert apps.networks_of(daemons, "backup") == {"wifi"}
    before = carried(daemons, "cellular")
    time.sleep(1.0)
    assert carried(daemons, "cellular") - before > 10_000  # 160 kbit/s for a second, and then some overhead


def test_the_keyboard_does_the_same_and_is_told_aloud(page: Page, daemons: Daemons) -> None:
    thread(page, "wifi", "call").locator(".grip").focus()
    page.keyboard.press("Enter")
    page.locator("#say-assertive").get_by_text("call picked up from wifi").wait_for()
    page.keyboard.press("ArrowDown")
    page.locator("#say-assertive").get_by_text("To cellular").wait_for()
    page.keyboard.press("Enter")
    until(lambda: apps.networks_of(daemons, "call") == {"cellular"})
    page.locator("#say-polite").get_by_text("call is now on cellular").wait_for()
    thread(page, "cellular", "call").wait_for()
    page.wait_for_function("document.activeElement.closest('.lane')?.dataset.network === 'cellular'")


def test_escape_leaves_it_where_it_is(page: Page, daemons: Daemons) -> None:
    thread(page, "wifi", "call").locator(".grip").focus()
    for key in ("Enter", "ArrowDown", "Escape"):
        page.keyboard.press(key)
    page.locator("#say-assertive").get_by_text("left where it is").wait_for()
    assert page.locator(".offers, .aimed").count() == 0
    assert apps.networks_of(daemons, "call") == {"wifi"}


def test_one_flow_of_several_is_dragged_alone_and_undo_takes_it_back(page: Page, daemons: Daemons) -> None:
    thread(page, "wifi", "call").locator(".grip").click()
    drag(page, page.locator(".flow .grip").first, lane(page, "cellular"))
    until(lambda: apps.networks_of(daemons, "call") == {"wifi", "cellular"})
    page.get_by_role("button", name="Undo").click()
    until(lambda: apps.networks_of(daemons, "call") == {"wifi"})
    page.get_by_text("Taken back").first.wait_for()


def test_the_menu_holds_an_application_and_gives_it_back(page: Page, daemons: Daemons) -> None:
    thread(page, "wifi", "backup").locator(".grip").click(button="right")
    page.get_by_role("menuitem", name="Hold").click()
    until(lambda: apps.networks_of(daemons, "backup") == {None})
    waiting = thread(page, "", "backup")
    waiting.wait_for()
    waiting.locator(".grip").focus()
    page.keyboard.press("m")
    page.get_by_role("menuitem", name="Back to the policies").click()
    until(lambda: apps.networks_of(daemons, "backup") == {"wifi"})


def test_a_paused_network_loses_its_threads_and_gets_them_back(page: Page, daemons: Daemons) -> None:
    lane(page, "wifi").locator(".lane-title .more").click()
    page.get_by_role("menuitem", name="Pause").click()
    thread(page, "cellular", "call").wait_for()
    assert apps.networks_of(daemons, "call") == {"cellular"}
    assert lane(page, "wifi").get_attribute("data-state") == "paused"
    lane(page, "wifi").locator(".lane-title .more").click()
    page.get_by_role("menuitem", name="Resume").click()
    until(lambda: daemons.network_states().get("wifi") == "up")


def test_everything_is_moved_by_one_button(page: Page, daemons: Daemons) -> None:
    page.get_by_role("button", name="Move everything").click()
    page.get_by_role("menuitemradio", name="over cellular").click()
    until(lambda: apps.networks_of(daemons, "call") | apps.networks_of(daemons, "backup") == {"cellular"})
    page.get_by_role("button", name="Everything on cellular").wait_for()


def test_a_refusal_says_what_is_wrong_and_what_to_do(page: Page, daemons: Daemons) -> None:
    thread(page, "wifi", "call").wait_for()
    page.evaluate("""async () => {
        const { handOver, application } = await import("/static/actions.js");
        await handOver(application("call"), "nowhere-at-all");
    }""")
    refusal = page.locator(".toast.bad")
    refusal.get_by_text("nowhere-at-all").wait_for()
    refusal.get_by_text("Up now").wait_for()
