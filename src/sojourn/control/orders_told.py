"""What the user's orders in force are, for people: `watch` shows them as pins."""

from collections.abc import Callable
from typing import Any

from sojourn.control.decide_orders import UserOrders, word_of
from sojourn.model import Flow
from sojourn.policy import match as matching


def orders_told(orders: UserOrders, flow_id: Callable[[Flow], str]) -> dict[str, Any]:
    """Return the JSON of all orders: everything, applications, flows, matches, each with its network or word."""
    return {
        "everything": orders.everything,
        "applications": {name: word_of(place) for name, place in orders.applications.items()},
        "flows": {flow_id(flow): word_of(place) for flow, place in orders.pinned.items()},
        "matches": {matching.write(match): word_of(place) for match, place in orders.matched.items()},
    }
