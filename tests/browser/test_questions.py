"""A question of a policy, answered in the page, before real daemons."""

import pytest
from playwright.sync_api import Page

from sojourn.lab.daemons import Daemons
from tests.browser import apps
from tests.browser.talk import until

pytestmark = pytest.mark.net

RULE = """
[[policy]]
application = "backup"
networks = ["wifi"]
otherwise = "ask"
ask_timeout = "60s"
"""


def test_a_question_is_answered_in_the_page_and_the_flow_goes(page: Page, daemons: Daemons) -> None:
    path = daemons.host_folder / "host.toml"
    path.write_text(path.read_text() + RULE)
    daemons.call("policy_reload")
    apps.answer(daemons)
    apps.start(daemons, "backup")
    until(lambda: apps.networks_of(daemons, "backup") == {"wifi"})
    daemons.lab.links["wifi"].set_carrier(False)
    asked = page.get_by_role("region", name="Question about backup")
    asked.wait_for()
    until(lambda: apps.networks_of(daemons, "backup") == {None})  # it waits for the answer
    assert asked.locator(".choices button").count() == 3
    asked.locator(".choices button").first.click()
    asked.wait_for(state="detached")
    until(lambda: apps.networks_of(daemons, "backup") == {"cellular"})
    assert daemons.call("questions") == []
