"""How associations end at the anchor, and ones that never began because nothing could be stored."""

from msgspec.structs import replace

from sojourn.upmt import events
from sojourn.upmt.anchor import Keep, NotKept, SubscriberChanged, SubscriberRemoved
from sojourn.upmt.commands import CloseTunnel, RemoveAssociation
from tests.harness.registering import Phone, anchor, answers, subscriber
from tests.upmt.test_anchor import HOST, OUTER, VIPA, associated, kinds


def test_a_host_is_told_in_its_tunnels_that_its_association_has_ended_unless_it_said_so_itself() -> None:
    for event in (SubscriberChanged(replace(subscriber(), revoked=True)), SubscriberRemoved("laptop")):
        machine, phone = associated()
        first, second, *_ = machine.subscribers["laptop"].tunnels
        for tunnel in (second, first):
            machine.handle(events.TunnelMoved(tunnel, OUTER), 1.0)
        commands = machine.handle(event, 5.0)
        assert commands[:3] == [CloseTunnel(first), CloseTunnel(second), RemoveAssociation(HOST)]
    machine, phone = associated()
    machine.handle(events.TunnelMoved(machine.subscribers["laptop"].tunnels[0], OUTER), 1.0)
    assert "CloseTunnel" not in kinds(phone.register(2.0, Expires="0"))


def test_a_credential_that_cannot_be_stored_is_not_given_and_the_token_stays_good() -> None:
    machine = anchor(pool="10.201.0.0/30")
    before = machine.subscribers["laptop"]
    phone = Phone(machine)
    keep, *_ = phone.register()
    assert isinstance(keep, Keep)
    assert keep.promised
    (refused,) = answers(machine.handle(NotKept(), 0.1))
    assert (refused.status, refused.header("Retry-After")) == (503, "120")
    assert machine.subscribers["laptop"] == before
    assert machine.handle(NotKept(), 0.2) == [], "said once"
    again, *_ = Phone(machine, origin=2).register(130.0)
    assert isinstance(again, Keep)
    assert again.subscriber.vipa == VIPA, "the only address there is was given back"
