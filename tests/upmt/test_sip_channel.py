"""The channel keeper: which network carries the SIP connection, and when another one is tried."""

from sojourn.model import Endpoint, Network
from sojourn.upmt.host_events import CloseChannel, OpenChannel
from sojourn.upmt.sip_channel import BACKOFF_LONGEST, ChannelKeeper

ANCHOR = Endpoint("anchor.example", 5061)
WIFI = Network("home", "wlan0", "10.0.2.2")
PHONE = Network("phone", "wwan0", "10.0.3.2")
SIX = Network("phone-6", "wwan0", "2001:db8::2")


def opening(channel: int, network: Network, anchor: str = "anchor.example") -> OpenChannel:
    return OpenChannel(channel, network.name, network.interface, network.address, Endpoint(anchor, 5061))


def test_one_channel_is_opened_on_the_best_network_and_stays() -> None:
    keeper = ChannelKeeper(ANCHOR)
    assert keeper.choose([], 0.0) == []
    assert keeper.choose([WIFI, PHONE], 0.0) == [opening(1, WIFI)]
    assert keeper.choose([PHONE, WIFI], 1.0) == [], "it is being opened"
    assert keeper.opened(1)
    assert keeper.open
    assert keeper.choose([PHONE, WIFI], 2.0) == []
    assert keeper.retry_at([PHONE, WIFI]) is None


def test_where_it_cannot_be_opened_the_next_network_is_tried_at_once() -> None:
    keeper = ChannelKeeper(ANCHOR)
    keeper.choose([WIFI, PHONE], 0.0)
    assert keeper.closed(1, 0.1)
    assert keeper.choose([WIFI, PHONE], 0.1) == [opening(2, PHONE)]
    assert keeper.closed(2, 0.2)
    assert keeper.choose([WIFI, PHONE], 0.2) == []
    assert keeper.retry_at([WIFI, PHONE]) == 1.1
    assert keeper.choose([WIFI, PHONE], 1.1) == [opening(3, WIFI)]


def test_a_network_that_fails_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    keeper, now, waits = ChannelKeeper(ANCHOR), 0.0, []
    for channel in range(1, 8):
        assert keeper.choose([WIFI], now) == [opening(channel, WIFI)]
        keeper.closed(channel, now)
        retry = keeper.retry_at([WIFI])
        assert retry is not None
        waits.append(retry - now)
        now = retry
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, BACKOFF_LONGEST, BACKOFF_LONGEST]


def test_an_open_connection_and_a_network_that_appears_forget_failures() -> None:
    keeper = ChannelKeeper(ANCHOR)
    for channel in (1, 2):
        keeper.choose([WIFI], float(channel * 10))
        keeper.closed(channel, float(channel * 10))
    keeper.choose([WIFI], 30.0)
    keeper.opened(3)
    keeper.closed(3, 40.0)
    assert keeper.retry_at([WIFI]) == 41.0, "the first wait again"
    keeper.forget_failures("phone")
    assert keeper.choose([WIFI], 40.0) == []
    keeper.forget_failures("home")
    assert keeper.choose([WIFI], 40.0) == [opening(4, WIFI)]
    keeper.closed(4, 40.0)
    keeper.forget_failures()
    assert keeper.choose([WIFI], 40.0) == [opening(5, WIFI)]


def test_a_channel_that_was_left_is_no_news_when_it_ends() -> None:
    keeper = ChannelKeeper(ANCHOR)
    keeper.choose([WIFI], 0.0)
    keeper.opened(1)
    assert keeper.leave() == [CloseChannel(1)]
    assert keeper.leave() == []
    assert not keeper.open
    assert keeper.choose([PHONE], 0.0) == [opening(2, PHONE)]
    assert not keeper.closed(1, 0.1)
    assert not keeper.opened(1)
    assert keeper.channel == 2
    assert keeper.choose([WIFI], 0.1) == []


def test_the_addresses_that_the_anchor_told_are_used_in_place_of_its_name() -> None:
    keeper = ChannelKeeper(ANCHOR)
    keeper.resolved(["203.0.113.1", "2001:db8::1"])
    assert keeper.choose([SIX], 0.0) == [opening(1, SIX, "2001:db8::1")]
    keeper.leave()
    assert keeper.choose([WIFI], 0.0) == [opening(2, WIFI, "203.0.113.1")]
    keeper.leave()
    keeper.resolved(["203.0.113.1"])
    assert keeper.choose([SIX], 0.0) == [opening(3, SIX)], "a family that it did not tell: the name is all there is"
