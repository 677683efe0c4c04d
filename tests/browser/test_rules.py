"""Rules edited in the page, and the parts that show the past, before real daemons.

mh ==wifi==\
            an --- ch     "phone" and "backup" at mh talk to ch
mh ==cell==/
"""

import re
from typing import Literal

import pytest
from playwright.sync_api import Page

from sojourn.lab.daemons import Daemons
from tests.browser import apps
from tests.browser.talk import until
from tests.browser.test_crowd import BEYOND, violations

pytestmark = pytest.mark.net

RULES = """
# The first rule is mine.
[[policy]]
application = "backup"   # at night
networks = ["wifi"]

[[policy]]
application = "phone"
networks = ["wifi", "cellular"]
"""


@pytest.fixture(scope="module", autouse=True)
def _talking(daemons: Daemons) -> None:
    path = daemons.host_folder / "host.toml"
    path.write_text(path.read_text() + RULES)
    daemons.call("policy_reload")
    apps.answer(daemons)
    apps.start(daemons, "phone", connections=3)


def rules(page: Page) -> None:
    page.evaluate("location.hash = '#/policies'")
    page.locator(".rule[data-at]").nth(1).wait_for()


def networks(page: Page, words: str) -> None:
    """Write other networks into the rule that is open."""
    page.get_by_label("Networks, the preferred first").fill(words)
    page.get_by_label("Networks, the preferred first").blur()


def test_a_rule_edited_in_the_page_is_tested_saved_and_governs_the_next_flow(page: Page, daemons: Daemons) -> None:
    rules(page)
    page.locator(".rule[data-at]").nth(1).locator(".rule-words").click()
    networks(page, "cellular, wifi")
    page.get_by_role("button", name="Test").click()
    page.get_by_text("3 flows would move").wait_for()
    assert page.locator(".moves li").count() == 3
    assert apps.networks_of(daemons, "phone") == {"wifi"}
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved: 2 rules").first.wait_for()
    until(lambda: apps.networks_of(daemons, "phone") == {"cellular"})
    text = (daemons.host_folder / "host.toml").read_text()
    assert "# The first rule is mine." in text
    assert "# at night" in text
    apps.start(daemons, "backup")
    assert apps.networks_of(daemons, "backup") == {"wifi"}
    page.get_by_role("button", name="Add a rule").click()
    page.get_by_role("textbox", name="Application").fill("mail")
    page.get_by_role("textbox", name="Application").blur()
    networks(page, "cellular")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved: 3 rules").first.wait_for()
    apps.start(daemons, "mail")
    assert apps.networks_of(daemons, "mail") == {"cellular"}


def test_the_arrow_keys_change_a_rules_place(page: Page, daemons: Daemons) -> None:
    rules(page)
    first = page.locator(".rule[data-at='0'] .rule-words b").inner_text()
    page.locator(".rule[data-at='0'] .handle").focus()
    page.keyboard.press("ArrowDown")
    page.locator("#say-assertive").get_by_text("is now rule 2").wait_for()
    assert page.locator(".rule[data-at='1'] .rule-words b").inner_text() == first
    assert page.evaluate("document.activeElement.closest('.rule').dataset.at") == "1"
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved").first.wait_for()

    def second() -> bool:
        names = [row["name"] for row in daemons.call("policy_list") if row["from"] == "user"]
        return names.index(first) == 1

    until(second)


def test_a_rule_that_is_dragged_by_its_handle_takes_the_place(page: Page) -> None:
    rules(page)
    second = page.locator(".rule[data-at='1'] .rule-words b").inner_text()
    page.locator(".rule[data-at='1'] .handle").hover()
    page.mouse.down()
    page.locator(".rule[data-at='0'] .place").hover()
    page.mouse.up()
    page.locator("#say-assertive").get_by_text("is now rule 1").wait_for()
    assert page.locator(".rule[data-at='0'] .rule-words b").inner_text() == second
    page.get_by_role("button", name="Discard").click()
    page.get_by_text("As the file has it").wait_for()
    assert page.locator(".rule[data-at='1'] .rule-words b").inner_text() == second


def test_a_mistake_is_told_and_nothing_is_written(page: Page, daemons: Daemons) -> None:
    before = (daemons.host_folder / "host.toml").read_bytes()
    rules(page)
    page.locator(".rule[data-at='0'] .rule-words").click()
    page.get_by_label("Add to: What a network must be").select_option("rtt")
    page.get_by_label("Round trip at most").fill("150")
    page.get_by_label("Round trip at most").blur()
    page.get_by_role("button", name="Test").click()
    page.get_by_role("alert").get_by_text("is no time").wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("Refused").wait_for()
    assert (daemons.host_folder / "host.toml").read_bytes() == before


def test_a_file_that_was_changed_meanwhile_is_not_written_over(page: Page, daemons: Daemons) -> None:
    rules(page)
    path = daemons.host_folder / "host.toml"
    page.get_by_role("button", name="As text").click()
    area = page.locator("textarea")
    area.fill(area.input_value() + "\n# mine\n")
    path.write_text(path.read_text() + "\n# somebody else's\n")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The file was changed meanwhile").wait_for()
    assert "# mine" not in path.read_text()
    page.get_by_role("button", name="Load it again").click()
    page.locator(".rule[data-at]").first.wait_for()
    page.get_by_role("button", name="As text").click()
    assert "# somebody else's" in page.locator("textarea").input_value()


@pytest.mark.parametrize(("light", "width"), [("light", 1280), ("dark", 380), ("light", 2560)])
def test_rules_and_past_fit_every_width_and_axe_finds_nothing(
    page: Page, daemons: Daemons, light: Literal["light", "dark"], width: int
) -> None:
    until(lambda: any(row["application"] == "phone" for row in daemons.call("usage")["rows"]), 40)
    page.emulate_media(color_scheme=light)
    page.set_viewport_size({"width": width, "height": 900})
    rules(page)
    page.locator(".rule[data-at='0'] .rule-words").click()
    assert page.evaluate(BEYOND) <= 0
    assert width == 2560 or violations(page) == []
    page.evaluate("location.hash = '#/past'")
    page.locator(".chart").nth(3).wait_for()
    page.get_by_role("heading", name="Data used").wait_for()
    shown = page.get_by_role("list", name="Networks").get_by_role("listitem").all_inner_texts()
    assert {"wifi", "cellular"} <= set(shown)
    used = page.get_by_role("region", name="Data used, a table").get_by_role("row").filter(has_text="phone")
    assert re.search(r"\d [kM]?B", used.inner_text())
    assert page.evaluate(BEYOND) <= 0
    assert width == 2560 or violations(page) == []
