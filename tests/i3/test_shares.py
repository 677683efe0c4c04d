import pytest

from sojourn.i3.shares import ALWAYS, MOST_SENDERS, Rates, Shares, neighbourhood


def test_a_sender_may_send_a_burst_and_then_its_rate() -> None:
    shares = Shares(Rates(packets=10, requests=5), 100)
    assert sum(shares.packet("192.0.2.1", 1000.0) for _ in range(100)) == 20
    assert sum(shares.packet("192.0.2.1", 1001.0) for _ in range(100)) == 10
    assert sum(shares.request("192.0.2.1", 1001.0) for _ in range(100)) == 10
    assert shares.packet("192.0.2.2", 1001.0), "others are not touched"


def test_work_costs_a_senders_share() -> None:
    shares = Shares(Rates(packets=10, requests=5), 100)
    assert shares.packet("192.0.2.1", 1000.0)
    shares.spend("192.0.2.1", 30)
    assert not shares.packet("192.0.2.1", 1000.0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8:0:0"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
     ("::1", "0:0:0:0"), ("2001:db8::", "2001:db8:0:0")],
)  # fmt: skip
def test_an_ipv6_customer_is_one_sender(host: str, expected: str) -> None:
    assert neighbourhood(host) == expected


def test_a_flood_of_sources_is_forgotten_and_owners_of_triggers_are_not() -> None:
    shares = Shares(Rates(), 100)
    shares.took("192.0.2.1", 1000.0)
    for number in range(MOST_SENDERS + 10):
        shares.packet(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1000.0)
    assert len(shares) == MOST_SENDERS
    shares.gave("192.0.2.1")
    assert shares.triggers == 0


def test_nobody_fills_the_node_alone_and_a_newcomer_always_finds_room() -> None:
    shares = Shares(Rates(), 10000)
    had: dict[str, int] = {}
    for number in range(20):
        host = f"192.0.2.{number}"
        while shares.room(host) and had.get(host, 0) < 5000:
            shares.took(host, 1000.0)
            had[host] = had.get(host, 0) + 1
    assert had["192.0.2.0"] < 10000 / 8
    assert min(had.values()) > ALWAYS
    assert shares.triggers < 10000


def test_when_it_is_full_it_is_full() -> None:
    shares = Shares(Rates(), 4)
    for number in range(4):
        assert shares.room(f"192.0.2.{number}")
        shares.took(f"192.0.2.{number}", 1000.0)
    assert not shares.room("192.0.2.9")
