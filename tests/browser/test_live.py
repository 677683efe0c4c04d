"""The live picture, from the kernel's carrier to the page."""

import pytest
from playwright.sync_api import Page

from sojourn.lab.daemons import Daemons

pytestmark = pytest.mark.net


def test_the_page_shows_the_networks(page: Page, daemons: Daemons) -> None:
    for name in daemons.lab.links:
        assert page.locator(f'[data-network="{name}"]').count() == 1
