"""The book of flows: who made them, which rule covers them, where they are; bounded."""

from sojourn.control.flows import FlowBook
from sojourn.model import TCP, Endpoint, Flow, Origin
from sojourn.policy.names import application_names

ZOOM = Origin(1, "/opt/zoom/zoom", "", "zoom")
SSH = Origin(2, "/usr/bin/ssh", "", "ssh")


def flow(port: int) -> Flow:
    return Flow(TCP, Endpoint("10.201.0.2", port), Endpoint("192.0.2.1", 443))


def test_flows_are_counted_by_rule_and_found_by_network() -> None:
    book = FlowBook()
    book.seen(flow(1), "wifi", "call", ZOOM)
    book.seen(flow(2), "wifi", "call")
    book.seen(flow(3), "phone", "")
    assert (len(book), book.count("call"), book.count(""), book.count("other")) == (3, 2, 1, 0)
    assert book.on("call", "wifi") == (flow(1), flow(2))
    assert book.moved("phone", "call") == 2
    assert book.moved("phone") == 0
    assert book.moved_exactly([flow(3), flow(9)], "wifi") == 1
    assert book.on("call", "wifi") == ()


def test_a_flow_that_is_told_again_is_the_same_flow() -> None:
    book = FlowBook()
    book.seen(flow(1), None)
    book.seen(flow(1), "wifi", "call", ZOOM)
    known = book.get(flow(1))
    assert known is not None
    assert (len(book), book.count(""), book.count("call"), known.network) == (1, 0, 1, "wifi")
    book.ended(flow(1))
    book.ended(flow(1))
    assert (len(book), book.count("call"), book.get(flow(1))) == (0, 0, None)


def test_other_rules_give_other_labels() -> None:
    book = FlowBook()
    book.seen(flow(1), "wifi", "call", ZOOM)
    book.seen(flow(2), "wifi", "", SSH)
    book.relabel(lambda _flow, origin: "shell" if origin == SSH else "")
    assert (book.count("call"), book.count("shell"), book.count("")) == (0, 1, 1)


def test_flows_of_an_application_are_found_by_what_people_call_it() -> None:
    book = FlowBook()
    book.seen(flow(1), "wifi", "a", ZOOM)
    book.seen(flow(2), "wifi", "b", SSH)
    book.seen(flow(3), "wifi", "c")
    assert [known.label for known in book.made_by("zoom", application_names)] == ["a"]
    assert [known.label for known in book.made_by("*s*", application_names)] == ["b"]


def test_the_book_is_bounded_and_can_be_told_anew() -> None:
    book = FlowBook(most=2)
    for port in range(5):
        book.seen(flow(port), "wifi")
    assert len(book) == 2
    book.clear()
    assert (len(book), book.count("")) == (0, 0)
