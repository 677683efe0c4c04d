"""Taking an order back leads to the orders that stood before it."""

import pytest

from sojourn.control.decide import Decide, Preferences
from sojourn.control.decide_orders import BLOCK, HOLD, UserOrders
from sojourn.control.orders_told import orders_told
from sojourn.control.undo_orders import orders_before, said
from sojourn.policy import match as matching
from sojourn.upmt.host_events import HandoverWanted
from tests.control.networks import HTTP, PHONE, SSH, WEB, WIFI, works


def standing(orders: UserOrders) -> tuple[object, ...]:
    return orders.everything, dict(orders.pinned), dict(orders.matched), dict(orders.applications)


@pytest.mark.parametrize(
    "order",
    [
        HandoverWanted("phone", (SSH, WEB)),
        HandoverWanted(None, (SSH,)),
        HandoverWanted("home", match=HTTP),
        HandoverWanted("phone", application="curl"),
        HandoverWanted(BLOCK, application="curl"),
        HandoverWanted(None, application="ssh"),
        HandoverWanted("phone"),
        HandoverWanted(None),
    ],
)
def test_after_an_order_and_what_takes_it_back_the_same_orders_stand(order: HandoverWanted) -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    for at, former in enumerate((
        HandoverWanted("home"),
        HandoverWanted("phone", application="ssh"),
        HandoverWanted("phone", (SSH,)),
        HandoverWanted("phone", match=HTTP),
    )):  # fmt: skip
        decide.handle(former, 100.0 + at)
    before, back = standing(decide.orders), orders_before(decide.orders, order)
    decide.handle(order, 110.0)
    for at, one in enumerate(back):
        decide.handle(one, 120.0 + at)
    assert standing(decide.orders) == before


def test_orders_are_told_by_name_and_word() -> None:
    orders = UserOrders()
    orders.application("curl", BLOCK)
    orders.pin((SSH,), HOLD)
    orders.match(HTTP, "phone")
    assert orders_told(orders, lambda flow: str(flow.remote.port)) == {
        "everything": None, "applications": {"curl": "block"}, "flows": {"22": "hold"},
        "matches": {matching.write(HTTP): "phone"},
    }  # fmt: skip


def test_what_was_done_is_said_in_a_few_words() -> None:
    assert said(HandoverWanted("phone", application="curl")) == "moved curl to phone"
    assert said(HandoverWanted(BLOCK, application="curl")) == "blocked curl"
    assert said(HandoverWanted(HOLD, (SSH,))) == "held 1 flow"
    assert said(HandoverWanted(None)) == "gave everything back to the policies"
    assert said(HandoverWanted("phone", match=HTTP)) == "moved flows by match to phone"
