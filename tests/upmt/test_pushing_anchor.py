"""The anchor and its PolicyPush as one machine: who registers over TLS is told what is offered."""

from sojourn.sip import message
from sojourn.sip.server import Send
from sojourn.upmt.anchor_events import AnchorCommand, SipArrived, SubscriberRemoved
from sojourn.upmt.policy_push import PolicyPush, PolicyPushed, PushSender, decode, encode, make_push
from sojourn.upmt.pushing_anchor import PushingAnchor
from tests.harness.registering import Counting, Phone, anchor, answers

PUSH = make_push(({"application": "zoom"},), {"cellular": "metered"}, ())


def pushing() -> tuple[PushingAnchor, Phone]:
    machine = PushingAnchor(anchor(), PushSender("192.0.2.1", Counting(9_000_000)))
    phone = Phone(machine.anchor)
    phone.anchor = machine  # type: ignore[assignment]
    return machine, phone


def asked(commands: list[AnchorCommand] | list[Send]) -> list[message.Request]:
    parsed = [message.parse(command.data) for command in commands if isinstance(command, Send)]
    return [one for one in parsed if isinstance(one, message.Request)]


def answer(request: message.Request, origin: int, phone: Phone, transport: str = "TLS") -> SipArrived:
    body = encode(PolicyPushed(decode(request.body).version))
    return SipArrived(origin, phone.source, transport, bytes(message.response(request, 200, body=body)))


def test_a_registration_over_tls_is_answered_and_then_followed_by_the_push() -> None:
    machine, phone = pushing()
    assert machine.offer(PUSH, 0.0) == []
    commands = phone.register()
    assert isinstance(commands[-2], Send)
    assert [reply.status for reply in answers(commands)] == [200]
    (push,) = asked(commands)
    assert decode(push.body) == PUSH
    assert commands.index(commands[-1]) > commands.index(commands[-2])
    assert machine.handle(answer(push, phone.origin, phone), 1.0) == []
    assert asked(phone.register(2.0)) == []
    assert [decode(one.body) for one in asked(machine.offer(PolicyPush(), 3.0))] == [PolicyPush()]


def test_a_host_over_udp_or_tcp_is_offered_nothing_because_nobody_proves_who_says_it() -> None:
    for transport in ("UDP", "TCP"):
        machine, phone = pushing()
        machine.offer(PUSH, 0.0)
        phone.transport = transport
        assert asked(phone.register()) == []


def test_without_anything_to_offer_the_anchor_is_as_it_was() -> None:
    machine, phone = pushing()
    plain = Phone(anchor())
    assert [type(command) for command in phone.register()] == [type(command) for command in plain.register()]
    assert machine.deadline() == machine.anchor.deadline()


def test_a_host_that_left_or_was_removed_is_told_nothing_more() -> None:
    for how in ("left", "removed"):
        machine, phone = pushing()
        machine.offer(PUSH, 0.0)
        phone.register()
        if how == "left":
            phone.register(1.0, Expires="0")
        else:
            machine.handle(SubscriberRemoved("laptop"), 1.0)
        assert machine.offer(PolicyPush(1), 2.0) == []


def test_what_is_no_answer_or_not_over_tls_changes_nothing() -> None:
    machine, phone = pushing()
    machine.offer(PUSH, 0.0)
    (push,) = asked(phone.register())
    assert machine.handle(SipArrived(phone.origin, phone.source, "TLS", b"SIP/2.0 nonsense\r\n\r\n"), 1.0) == []
    assert machine.anchor.refused["start-line"] == 1
    machine.handle(answer(push, phone.origin, phone, "TCP"), 1.0)
    assert machine.deadline() is not None
    assert machine.tick(40.0) == []
    assert len(asked(phone.register(41.0))) == 1
