"""What takes an order of the user's back: the orders that stood before it, given again."""

from collections.abc import Mapping

from sojourn.control.decide_orders import BLOCK, DIRECT, HOLD, UserOrders, word_of
from sojourn.model import Flow
from sojourn.upmt.host_events import HandoverWanted


def orders_before(orders: UserOrders, order: HandoverWanted) -> tuple[HandoverWanted, ...]:
    """Return the orders that bring back what holds now, if `order` is carried out next."""
    if order.application is not None:
        return (HandoverWanted(orders.applications.get(order.application), application=order.application),)
    if order.match is not None:
        return (HandoverWanted(orders.matched.get(order.match), match=order.match),)
    if order.flows is not None:
        return tuple(_of_flows({flow: orders.pinned.get(flow) for flow in order.flows}))
    return (HandoverWanted(None), *_all(orders))


def _all(orders: UserOrders) -> list[HandoverWanted]:
    out = [HandoverWanted(orders.everything)] if orders.everything is not None else []
    out += [HandoverWanted(place, application=name) for name, place in orders.applications.items()]
    out += [HandoverWanted(place, match=match) for match, place in orders.matched.items()]
    return out + _of_flows(orders.pinned)


def _of_flows(places: Mapping[Flow, str | None]) -> list[HandoverWanted]:
    """Return one order for the flows of each place."""
    flows: dict[str | None, list[Flow]] = {}
    for flow, place in places.items():
        flows.setdefault(place, []).append(flow)
    return [HandoverWanted(place, tuple(some)) for place, some in flows.items()]


def said(order: HandoverWanted) -> str:
    """Return an order in a few words: "moved curl to wlan0"."""
    what = "everything"
    if order.application is not None:
        what = order.application
    elif order.match is not None:
        what = "flows by match"
    elif order.flows is not None:
        what = f"{len(order.flows)} flow{'s' if len(order.flows) != 1 else ''}"
    if order.network is None:
        return f"gave {what} back to the policies"
    done = {HOLD: f"held {what}", BLOCK: f"blocked {what}", DIRECT: f"sent {what} direct"}
    return done.get(order.network, f"moved {what} to {word_of(order.network)}")
