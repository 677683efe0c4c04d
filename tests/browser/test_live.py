"""The live picture, from the kernel's carrier to the page: a network is pulled, and the page follows."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from tests.browser.talk import place, talking, until

pytestmark = pytest.mark.net

FOLLOWS_WITHIN = 0.2
"""Seconds; a machine that others use may hold up one try, and not three."""
TRIES = 3

WATCH = """([gone, application]) => {
  const shown = () => ({
    lane: document.querySelector(`[data-network="${gone}"]`)?.dataset.state ?? "gone",
    elsewhere: [...document.querySelectorAll(`[data-app="${application}"]:not(.ghost)`)].some(
      (thread) => thread.closest("[data-network]") && thread.closest("[data-network]").dataset.network !== gone),
  });
  window.followed = new Promise((done) => {
    const look = () => {
      const { lane, elsewhere } = shown();
      if (lane !== "up" && elsewhere) { observer.disconnect(); done(performance.timeOrigin + performance.now()); }
    };
    const observer = new MutationObserver(look);
    observer.observe(document, { subtree: true, childList: true, attributes: true });
    look();
  });
}"""


@pytest.fixture(scope="module")
def flow(lab: Lab, daemons: Daemons) -> Iterator[str]:
    with talking(lab, daemons) as flow:
        yield flow


def test_the_page_shows_the_networks(page: Page, daemons: Daemons) -> None:
    for name in daemons.lab.links:
        assert page.locator(f'[data-network="{name}"]').count() == 1


def pulled(page: Page, daemons: Daemons, flow: str) -> float:
    """Pull the network that carries a flow; return after how many seconds the page shows that, and plug it in again."""
    name = next(row["application"] for row in daemons.call("flows") if row["id"] == flow)
    here = place(daemons, flow)
    assert here is not None
    page.locator(f'[data-network="{here}"][data-state="up"] [data-app="{name}"]:not(.ghost)').wait_for()
    page.evaluate(WATCH, [here, name])
    before = page.evaluate("performance.timeOrigin + performance.now()")
    daemons.lab.links[here].set_carrier(False)
    after = float(page.evaluate("window.followed")) - float(before)
    daemons.lab.links[here].set_carrier(True)
    until(lambda: daemons.network_states().get(here) == "up", 20)
    return after / 1000


def test_a_network_is_pulled_and_the_page_follows_at_once(page: Page, daemons: Daemons, flow: str) -> None:
    took = []
    for _ in range(TRIES):
        until(lambda: place(daemons, flow))
        took.append(pulled(page, daemons, flow))
        if took[-1] < FOLLOWS_WITHIN:
            break
    assert min(took) < FOLLOWS_WITHIN, took
