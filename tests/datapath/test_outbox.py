"""What waits for control: in order, bounded, and in few writes."""

import os
import socket
from collections.abc import Iterator

import pytest

from sojourn.datapath import wire
from sojourn.datapath.outbox import Outbox
from sojourn.linux.descriptors import DescriptorQueue
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.upmt import events
from tests.harness.engine_double import flow_number

HOST, TUNNEL = AssociationId(1), TunnelId(7)
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def seen(number: int) -> events.FlowSeen:
    return events.FlowSeen(HOST, flow_number(number), TUNNEL)


def silent(number: int) -> events.TunnelSilent:
    return events.TunnelSilent(TUNNEL, float(number))


def state(rows: int) -> events.State:
    return events.State(None, (), (), (), (), (), {TunnelId(rows): Endpoint("192.0.2.1", 1)})


def read(other: socket.socket, queue: DescriptorQueue | None = None) -> list[list[wire.ToControl]]:
    """Return the messages that have come, a list for each frame."""
    frames, found = wire.Frames(), []
    try:
        while data := (other.recv(1 << 16) if queue is None else queue.receive(other, 1 << 16)):
            found += [list(wire.to_control(body)) for body in frames.feed(data)]
    except BlockingIOError:
        pass
    return found


def test_what_was_put_since_the_last_flush_goes_as_one_frame(ends: Ends) -> None:
    outbox = Outbox()
    for number in range(100):
        outbox.put(seen(number))
    assert outbox.flush(ends[0])
    assert read(ends[1]) == [[seen(number) for number in range(100)]]
    assert outbox.flush(ends[0])
    assert read(ends[1]) == []


def test_descriptors_keep_their_place_among_messages(ends: Ends) -> None:
    outbox = Outbox()
    files = [os.open(path, os.O_RDONLY) for path in ("/dev/null", "/dev/zero")]
    outbox.put(seen(1))
    for number, fd in enumerate(files):
        outbox.put_descriptor(wire.HoldDescriptor(str(number)), fd)
    outbox.put(seen(2))
    inodes = [os.fstat(fd).st_ino for fd in files]
    for fd in files:
        os.close(fd)  # the outbox has copies
    assert outbox.flush(ends[0])
    queue = DescriptorQueue()
    messages = [message for frame in read(ends[1], queue) for message in frame]
    assert messages == [seen(1), wire.HoldDescriptor("0"), wire.HoldDescriptor("1"), seen(2)]
    for inode in inodes:
        fd = queue.claim()
        assert os.fstat(fd).st_ino == inode
        os.close(fd)


def test_a_reader_that_stops_costs_events_about_flows_and_then_gets_to_know_how_many(ends: Ends) -> None:
    outbox = Outbox(soft_limit=50, hard_limit=500)
    number = 0
    while outbox.flush(ends[0]):
        outbox.put(silent(number))
        number += 1
    for more in range(80):
        outbox.put(seen(more))
        outbox.put(silent(number + more))
    assert not outbox.overflowed
    got: list[wire.ToControl] = []
    while not outbox.flush(ends[0]):
        got += [message for frame in read(ends[1]) for message in frame]
    dropped = outbox.take_dropped()
    assert 80 - 50 <= dropped < 80
    assert outbox.take_dropped() == 0
    outbox.put(seen(999))
    assert outbox.flush(ends[0])


def test_no_event_of_flows_is_kept_between_the_first_one_dropped_and_the_state(ends: Ends) -> None:
    outbox = Outbox(soft_limit=1, hard_limit=500)
    outbox.put(silent(1))
    outbox.put(seen(1))
    assert outbox.flush(ends[0])
    outbox.put(seen(2))  # there is room again, but flow 1 would be missing
    assert outbox.flush(ends[0])
    assert outbox.take_dropped() == 2
    assert [message for frame in read(ends[1]) for message in frame] == [silent(1)]


def test_measurements_beyond_what_there_is_room_for_are_let_go_without_asking_for_the_whole_state(ends: Ends) -> None:
    outbox = Outbox(soft_limit=50, hard_limit=500)
    measured = [events.TunnelMeasured(TunnelId(n), None, None, None, None, None, 1400, 0, 0, 0, 0) for n in range(60)]
    for event in measured:
        outbox.put(event)
    assert outbox.flush(ends[0])
    assert outbox.take_dropped() == 0
    outbox.put(seen(1))
    assert outbox.flush(ends[0])
    assert [message for frame in read(ends[1]) for message in frame] == [*measured[:50], seen(1)]


def test_too_much_of_what_must_not_be_dropped_is_an_overflow() -> None:
    outbox = Outbox(soft_limit=5, hard_limit=10)
    for number in range(10):
        outbox.put(silent(number))
    assert not outbox.overflowed
    outbox.put(silent(10))
    assert outbox.overflowed
    outbox.clear()
    assert not outbox.overflowed


def test_packets_count_by_their_size() -> None:
    outbox = Outbox(soft_limit=5, hard_limit=10)
    outbox.put(events.InnerReceived(HOST, TUNNEL, bytes(65535)))
    assert outbox.overflowed


def test_signals_of_mobile_hosts_never_make_an_overflow(ends: Ends) -> None:
    outbox = Outbox(soft_limit=5, hard_limit=10)
    for _ in range(100):
        outbox.put(events.InnerReceived(HOST, TUNNEL, bytes(300)))
        outbox.put(events.StrangerReceived(HOST, bytes(300), Endpoint("203.0.113.9", 4)))
    assert not outbox.overflowed
    outbox.put(silent(1))
    assert outbox.flush(ends[0])
    received = [message for frame in read(ends[1]) for message in frame]
    assert received[-1] == silent(1)
    assert 0 < len(received) < 10
    assert outbox.take_dropped() == 0, "the peer sends signals again: no State is due"


def test_a_newer_state_takes_the_place_of_an_older_one(ends: Ends) -> None:
    outbox = Outbox()
    for message in (state(1), wire.StateRows((), last=True), silent(1), state(2), wire.StateRows((), last=True)):
        outbox.put(message)
    assert outbox.flush(ends[0])
    assert read(ends[1]) == [[silent(1), state(2), wire.StateRows((), last=True)]]


def test_orders_done_are_counted_together_but_not_across_what_happened_between(ends: Ends) -> None:
    outbox = Outbox()
    for message in (wire.Done(1), wire.Done(1), seen(1), wire.Done(1)):
        outbox.put(message)
    assert outbox.flush(ends[0])
    assert read(ends[1]) == [[wire.Done(2), seen(1), wire.Done(1)]]


def test_a_reader_that_has_gone_is_an_error_of_the_system(ends: Ends) -> None:
    outbox = Outbox()
    ends[1].close()
    outbox.put(seen(1))
    with pytest.raises(OSError, match="Broken pipe"):
        outbox.flush(ends[0])
    outbox.clear()
