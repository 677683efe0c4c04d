"""What a test does with the live picture: finds lanes and threads, drags by mouse or finger, looks at the bytes."""

from playwright.sync_api import Locator, Page

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons


def lane(page: Page, network: str) -> Locator:
    return page.locator(f'.lane[data-network="{network}"]')


def thread(page: Page, network: str, app: str) -> Locator:
    return lane(page, network).locator(f'.thread[data-app="{app}"]:not(.ghost)')


def carried(daemons: Daemons, network: str) -> int:
    """Return the bytes that left by a network's interface."""
    statistics = f"/sys/class/net/{network}/statistics/tx_bytes"
    return int(daemons.lab.run(topology.MOBILE_HOST, "cat", statistics))


def drag(page: Page, grip: Locator, target: Locator) -> None:
    start, end = grip.bounding_box(), target.bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 30, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=5)
    page.mouse.up()


class Finger:
    """One finger on a page, as Chromium's own input path knows it: with panning, long presses and cancellation."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._at: tuple[float, float] = (0, 0)

    def _send(self, kind: str, *points: tuple[float, float]) -> None:
        touched = [{"x": x, "y": y} for x, y in points]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})

    def down(self, x: float, y: float) -> None:
        """Touch the page."""
        self._at = (x, y)
        self._send("touchStart", self._at)

    def move(self, x: float, y: float, steps: int = 6) -> None:
        """Move on the page."""
        (from_x, from_y), self._at = self._at, (x, y)
        for step in range(1, steps + 1):
            self._send("touchMove", (from_x + (x - from_x) * step / steps, from_y + (y - from_y) * step / steps))

    def up(self) -> None:
        """Leave it."""
        self._send("touchEnd")


def middle(found: Locator) -> tuple[float, float]:
    """Return the middle of an element, in the page's window."""
    box = found.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
