"""Steering by finger on a phone, seen in the data path.

mh ==wifi==\
            an --- ch     "call" at mh talks to ch over two connections
mh ==cell==/
"""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page

from sojourn.lab.daemons import Daemons
from tests.browser import apps
from tests.browser.picture import Finger, carried, lane, middle, thread
from tests.browser.talk import until
from tests.browser.window import Window

pytestmark = pytest.mark.net


@pytest.fixture
def phone(browser: Browser, window: Window, daemons: Daemons) -> Iterator[Page]:
    """The page on a phone."""
    apps.answer(daemons)
    apps.start(daemons, "call", connections=2, up=80_000)
    context = browser.new_context(viewport={"width": 380, "height": 640}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(window.address)
    thread(page, "wifi", "call").wait_for()
    yield page
    context.close()


def in_view(found: Locator) -> tuple[float, float]:
    """Scroll until something is in the middle of the phone, and return where that is."""
    found.evaluate("(element) => element.scrollIntoView({block: 'center'})")
    return middle(found)


def at_rest(phone: Page) -> None:
    """Wait until a swipe's momentum has gone: what touches a page in motion stops it, and does no more."""
    phone.evaluate("""() => new Promise((done) => {
        let last = -1;
        const look = () => (scrollY === last ? done() : ((last = scrollY), setTimeout(look, 300)));
        look();
    })""")


def carry_to(phone: Page, finger: Finger, network: str) -> None:
    """Carry something over a lane: to the window's edge while the lane is out of sight, and then onto it."""
    head, aimed = lane(phone, network).locator(".lane-head"), phone.locator(f'.lane.aimed[data-network="{network}"]')

    def over() -> int:
        finger.move(190, 320, 2)  # far from the edges the page rests
        x, y = middle(head)
        if 80 < y < 560:
            finger.move(x, y)
            return aimed.count()
        finger.move(x, 5 if y < 320 else 635, 2)
        time.sleep(min(0.5, abs(y - 320) / 900))
        return 0

    until(over, 30)


def test_a_finger_scrolls_carries_and_opens_the_menu(phone: Page, daemons: Daemons) -> None:
    finger, grip = Finger(phone), thread(phone, "wifi", "call").locator(".line .grip")
    # A swipe is a swipe, wherever it begins.
    x, y = middle(grip)
    finger.down(x, y)
    finger.move(x, y - 150)
    finger.up()
    phone.wait_for_function("scrollY > 50")
    assert phone.locator(".carried, .menu").count() == 0
    assert apps.networks_of(daemons, "call") == {"wifi"}
    at_rest(phone)
    phone.evaluate("scrollTo(0, 0)")
    at_rest(phone)

    # Held for a moment it is picked up; at the window's edge the page comes along.
    finger.down(*middle(grip))
    phone.locator(".carried").get_by_text("call").wait_for()
    finger.move(190, 630)
    until(lambda: middle(lane(phone, "cellular").locator(".lane-head"))[1] < 560)
    carry_to(phone, finger, "cellular")
    finger.up()
    until(lambda: apps.networks_of(daemons, "call") == {"cellular"})
    before = carried(daemons, "cellular")
    until(lambda: carried(daemons, "cellular") - before > 10_000)
    quiet = carried(daemons, "wifi")
    time.sleep(0.5)
    assert carried(daemons, "wifi") - quiet < 2_000, "nothing of it is left on the other"

    # A tap shows the flows; one of them is carried back alone.
    there = thread(phone, "cellular", "call")
    there.locator(".line .grip").tap()
    there.locator(".flow").nth(1).wait_for()
    finger.down(*in_view(there.locator(".flow .grip").first))
    phone.locator(".carried").wait_for()
    carry_to(phone, finger, "wifi")
    finger.up()
    until(lambda: apps.networks_of(daemons, "call") == {"wifi", "cellular"})

    # Held, and let go where it was: the menu.
    finger.down(*in_view(thread(phone, "wifi", "call").locator(".line .grip")))
    phone.locator(".carried").wait_for()
    finger.up()
    phone.get_by_role("menuitem", name="Move to cellular").tap()
    until(lambda: apps.networks_of(daemons, "call") == {"cellular"})
    phone.get_by_role("button", name="Undo").last.tap()
    until(lambda: apps.networks_of(daemons, "call") == {"wifi", "cellular"})
