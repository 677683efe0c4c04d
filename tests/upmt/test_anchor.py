"""The anchor's machine: REGISTER and MESSAGE in, records, leases, orders and answers out."""

import msgspec
import pytest
from msgspec.structs import replace

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import ip
from sojourn.packet.seal import Secret
from sojourn.paft import MoveResult
from sojourn.policy.match import parse
from sojourn.sip import message
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.server import Send
from sojourn.upmt import events, lease
from sojourn.upmt.anchor import (
    LINGER,
    Anchor,
    AnchorCommand,
    Associated,
    Keep,
    SipArrived,
    SubscriberChanged,
    SubscriberRemoved,
    Trust,
    association_of,
)
from sojourn.upmt.anchor_signals import PATIENCE
from sojourn.upmt.commands import (
    AddAssociation,
    Everything,
    InstallSecret,
    Matching,
    Move,
    MoveFlows,
    RemoveAssociation,
    SendInner,
)
from sojourn.upmt.records import Subscriber
from tests.harness.registering import INNER, UNIX, Counting, Phone, anchor, answers, subscriber
from tests.sip.test_message import M1, M3

VIPA = "10.201.0.2"
HOST = association_of(VIPA)
OUTER = Endpoint("198.51.100.1", 51820)
JSON = "application/json"


def associated(*, transport: str = "TLS") -> tuple[Anchor, Phone]:
    machine = anchor()
    phone = Phone(machine, transport=transport)
    phone.register()
    return machine, phone


def kinds(commands: list[AnchorCommand]) -> list[str]:
    return [type(command).__name__ for command in commands]


def status(commands: list[AnchorCommand]) -> int:
    (answer,) = answers(commands)
    return answer.status


def tunnelled(machine: Anchor, data: bytes, tunnel: TunnelId, now: float = 1.0) -> list[AnchorCommand]:
    """Let a SIP message come out of a tunnel."""
    packet = ip.udp_packet(Endpoint(VIPA, 5060), Endpoint(INNER, 5060), data)
    return machine.handle(events.InnerReceived(HOST, tunnel, packet, OUTER), now)


def in_tunnel(command: AnchorCommand) -> tuple[TunnelId, message.Response]:
    """Return the tunnel and the answer of an order to send a signal's answer."""
    assert isinstance(command, SendInner)
    source, destination, payload = ip.udp_parts(command.packet)
    assert (source, destination) == (Endpoint(INNER, 5060), Endpoint(VIPA, 5060))
    answer = message.parse(payload)
    assert isinstance(answer, message.Response)
    return command.tunnel, answer


def figure_9_signal(data: bytes, host: AssociationId, source: Endpoint) -> events.InnerReceived:
    packet = ip.udp_packet(Endpoint("1.2.3.4", 5060), Endpoint("45.0.0.1", 5060), data)
    return events.InnerReceived(host, TunnelId(7), packet, source)


# The paper's messages.


def test_figure_9_whole() -> None:
    """M1 over UDP, challenged as the text asks; M2 with VIpAddr; M3 inside the tunnel."""
    lent = TunnelId(13673865)
    record = subscriber("Terminal_ID", "a secret")
    machine = anchor(replace(record, vipa="1.2.3.4", tunnels=(lent, TunnelId(7))), pool="1.2.3.0/24")
    source = Endpoint("160.80.100.1", 30000)
    client = DigestClient("Terminal_ID", "a secret", Counting())

    (challenge,) = machine.handle(SipArrived(1, source, "UDP", M1), 0.0)
    assert isinstance(challenge, Send)
    (answer,) = answers([challenge])
    assert answer.status == 401
    assert client.challenged(answer)
    again = message.parse(M1.replace(b"CSeq: 1 ", b"CSeq: 2 "))
    assert isinstance(again, message.Request)
    client.authorize(again)
    commands = machine.handle(SipArrived(1, source, "UDP", bytes(again)), 0.1)
    assert kinds(commands) == ["Keep", "AddAssociation", "Trust", "Associated", "Send"], "no secret outside of TLS"
    send = commands[-1]
    assert isinstance(send, Send)
    assert send.destination == source, "rport"
    (m2,) = answers([send])
    assert (m2.status, m2.header("VIpAddr"), m2.body) == (200, "1.2.3.4", b"")
    assert m2.via.parameters["received"] == "160.80.100.1"
    assert m2.via.tid == "Terminal_ID"

    host = association_of("1.2.3.4")
    machine.handle(events.TunnelMoved(lent, source), 1.0)
    (challenge,) = machine.handle(figure_9_signal(M3, host, source), 1.0)
    assert isinstance(challenge, SendInner)
    asked = message.parse(ip.udp_parts(challenge.packet)[2])
    assert isinstance(asked, message.Response)
    assert asked.status == 401, "nothing else proves a signal in a tunnel that is not sealed"
    client = DigestClient("Terminal_ID", "a secret", Counting(100))
    assert client.challenged(asked)
    signed = message.parse(M3.replace(b"CSeq: 1 ", b"CSeq: 2 "))
    assert isinstance(signed, message.Request)
    client.authorize(signed)
    orders = machine.handle(figure_9_signal(bytes(signed), host, source), 1.2)
    web = Matching(parse("-p tcp -d 160.80.81.1 --dport 80"))
    assert orders == [MoveFlows(host, 0, (Move(web, lent),))]
    (first,) = machine.handle(events.FlowsMoved(host, 0, ({MoveResult.MOVED: 1},)), 1.3)
    assert isinstance(first, SendInner)
    answered = message.parse(ip.udp_parts(first.packet)[2])
    assert isinstance(answered, message.Response)
    assert answered.status == 200
    assert msgspec.json.decode(answered.body) == {
        "mType": "HandoverResponse", "results": [{"tunnelID": 13673865, "counts": {"moved": 1}}],
    }  # fmt: skip


# Association.


def test_a_first_registration_is_challenged_and_changes_nothing() -> None:
    machine = anchor()
    commands = Phone(machine).send(Phone(machine).request(headers={"Contact": "<sip:a@10.0.0.2>"}))
    assert kinds(commands) == ["Send"]
    assert status(commands) == 401
    assert machine.deadline() is None
    assert machine.refused == {"challenge": 1}


def test_what_an_association_is_stored_before_anyone_hears_of_it() -> None:
    machine = anchor()
    keep, add, install, trust, log, send = Phone(machine).register(10.0)
    assert isinstance(keep, Keep)
    record = keep.subscriber
    assert (record.vipa, record.tid, record.lease_until) == (VIPA, "tid-1", UNIX + 610.0)
    assert record.ha1 is not None
    assert record.ha1_once is not None, "still good: the host may never get this answer"
    assert add == AddAssociation(HOST, VIPA, None, record.tunnels)
    assert install == InstallSecret(HOST, record.secrets[0])
    assert trust == Trust(1, Endpoint("198.51.100.1", 40000))
    assert log == Associated("laptop", "laptop's name", VIPA, "associated", Endpoint("198.51.100.1", 40000))
    (answer,) = answers([send])
    granted, credential = lease.decode(answer.body)
    assert (granted.vipa, granted.secret) == (VIPA, record.secrets[0])
    assert answer.header("VIpAddr") == VIPA
    assert credential is not None


def test_the_hosts_own_credential_retires_the_one_time_secret() -> None:
    machine, phone = associated()
    (answer,) = answers(phone.register(20.0))
    _, credential = lease.decode(answer.body)
    assert credential is not None, "not used yet: told again"
    own = Phone(machine, secret=credential, origin=2)
    keep, *rest = own.register(30.0)
    assert isinstance(keep, Keep)
    assert keep.subscriber.ha1_once is None
    assert [command.what for command in rest if isinstance(command, Associated)] == ["refreshed"]
    assert lease.decode(answers(rest)[0].body)[1] is None
    assert status(Phone(machine, origin=3).register(40.0)) == 403


def test_a_refresh_installs_a_second_secret_and_use_of_it_erases_the_first() -> None:
    machine, phone = associated()
    commands = phone.register(400.0)
    installed = [command.secret.generation for command in commands if isinstance(command, InstallSecret)]
    assert installed == [1, 2]
    (keep,) = machine.handle(events.SecretInUse(HOST, 2), 401.0)
    assert isinstance(keep, Keep)
    assert [secret.generation for secret in keep.subscriber.secrets] == [2]
    assert machine.handle(events.SecretInUse(HOST, 2), 402.0) == []
    assert machine.handle(events.SecretInUse(AssociationId(9), 2), 402.0) == []


def test_leaving_takes_everything_back() -> None:
    machine, phone = associated()
    remove, keep, log, send = phone.register(20.0, Expires="0")
    assert remove == RemoveAssociation(HOST)
    assert isinstance(keep, Keep)
    assert keep.subscriber.vipa is None
    assert isinstance(log, Associated)
    assert log.what == "left"
    assert answers([send])[0].header("VIpAddr") is None
    assert machine.deadline() is None


def test_a_registration_without_contact_only_asks() -> None:
    machine = anchor()
    phone = Phone(machine)
    challenge = phone.send(phone.request())
    assert phone.digest.challenged(answers(challenge)[0])
    commands = phone.send(phone.request())
    assert kinds(commands) == ["Send"]
    assert (status(commands), answers(commands)[0].header("VIpAddr")) == (200, None)
    phone.register()
    asked = phone.send(phone.request())
    assert kinds(asked) == ["Send"]
    assert answers(asked)[0].header("VIpAddr") == VIPA


def test_two_hosts_have_nothing_in_common() -> None:
    machine = anchor(subscriber("one"), subscriber("two"))
    first = Phone(machine, "one", origin=1, tid="t1").register()
    second = Phone(machine, "two", origin=2, tid="t2").register()
    one, two = (commands[0].subscriber for commands in (first, second) if isinstance(commands[0], Keep))
    assert one.vipa != two.vipa
    assert not set(one.tunnels) & set(two.tunnels)
    assert one.secrets[0].key != two.secrets[0].key


def test_an_exhausted_pool_is_said_with_a_remedy_and_a_time() -> None:
    machine = anchor(subscriber("one"), subscriber("two"), pool="10.201.0.0/30")
    Phone(machine, "one", origin=1).register()
    (send,) = Phone(machine, "two", origin=2).register()
    (answer,) = answers([send])
    assert (answer.status, answer.header("Retry-After")) == (503, "120")
    assert answer.phrase.startswith("No free address")


def test_an_exhausted_pool_takes_back_the_lease_that_ran_out_longest_ago() -> None:
    machine = anchor(subscriber("one"), subscriber("two"), pool="10.201.0.0/30")
    Phone(machine, "one", origin=1).register()
    remove, gone, keep, add, *_ = Phone(machine, "two", origin=2).register(601.0)
    assert remove == RemoveAssociation(HOST), "before the address is anyone else's"
    assert isinstance(gone, Keep)
    assert (gone.subscriber.user, gone.subscriber.vipa) == ("one", None)
    assert isinstance(keep, Keep)
    assert (keep.subscriber.user, keep.subscriber.vipa) == ("two", VIPA)
    assert isinstance(add, AddAssociation)


def test_a_lease_that_ran_out_ends_after_a_day() -> None:
    machine, _ = associated()
    assert machine.deadline() == 600.0 + LINGER
    assert machine.tick(600.0 + LINGER - 1.0) == []
    remove, keep = machine.tick(600.0 + LINGER)
    assert remove == RemoveAssociation(HOST)
    assert isinstance(keep, Keep)
    assert keep.subscriber.vipa is None
    assert machine.deadline() is None


def test_revoking_and_removing_cut_a_host_off() -> None:
    for event in (SubscriberChanged(replace(subscriber(), revoked=True)), SubscriberRemoved("laptop")):
        machine, phone = associated()
        commands = machine.handle(event, 5.0)
        assert commands[0] == RemoveAssociation(HOST), "it was heard on no tunnel in which it could be told"
        assert status(phone.register(6.0)) == 403
        assert status(phone.send(phone.request("MESSAGE", b"{}", JSON))) == 403
        assert machine.user_of(HOST) is None


def test_a_restarted_machine_tells_the_data_path_what_stands_and_goes_on() -> None:
    machine, _ = associated()
    records = list(machine.subscribers.values())
    ended = Subscriber("gone", "Gone", secrets=(Secret(3, b"", 9),))
    successor = anchor(*records, ended, replace(records[0], user="bad", vipa="10.201.0.9", revoked=True))
    add, install = successor.start(fresh_secrets=False)
    assert add == AddAssociation(HOST, VIPA, None, records[0].tunnels)
    assert install == InstallSecret(HOST, records[0].secrets[0])
    assert successor.user_of(HOST) == records[0]
    assert kinds(anchor(*records).start(fresh_secrets=True)) == ["AddAssociation"]


def test_bytes_that_are_no_request_are_counted_and_nothing_else() -> None:
    machine = anchor()
    source = Endpoint("198.51.100.1", 1)
    for data in (b"", b"\x00\x01", b"SIP/2.0 200 OK\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        assert machine.handle(SipArrived(1, source, "UDP", data), 0.0) == []
    assert machine.refused.total() == 4


# Signals.


def handover(phone: Phone, move: int = 1) -> message.Request:
    body = b'{"mType":"HandoverRequest","move":%d,"rows":[{"all":true}]}' % move
    return phone.request("MESSAGE", body, JSON)


def test_a_handover_in_a_tunnel_is_answered_in_it_once_the_data_path_has_answered() -> None:
    machine, phone = associated()
    tunnel = machine.subscribers["laptop"].tunnels[3]
    request = handover(phone)
    keep, order = tunnelled(machine, bytes(request), tunnel)
    assert keep == Keep(machine.subscribers["laptop"], lasting=False)
    assert machine.subscribers["laptop"].move == 1, "on record before it is carried out"
    assert order == MoveFlows(HOST, 1, (Move(Everything(), tunnel),))
    assert tunnelled(machine, bytes(request), tunnel) == [], "a copy of one that is being worked on"
    (command,) = machine.handle(events.FlowsMoved(HOST, 1, ({MoveResult.MOVED: 2},)), 1.1)
    came_on, answer = in_tunnel(command)
    assert (came_on, answer.status) == (tunnel, 200)
    assert tunnelled(machine, bytes(request), tunnel) == [command], "a late copy gets the same answer"


def test_a_tunnel_request_says_where_the_host_is_seen() -> None:
    machine, phone = associated()
    tunnel = machine.subscribers["laptop"].tunnels[0]
    (command,) = tunnelled(machine, bytes(phone.request("MESSAGE", b'{"mType":"TunnelRequest"}', JSON)), tunnel)
    _, answer = in_tunnel(command)
    assert msgspec.json.decode(answer.body) == {
        "mType": "TunnelResponse", "tunnelID": tunnel, "yourAddress": OUTER.address, "yourPort": OUTER.port,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [(b"{}", "text/plain", 415), (b"hello", JSON, 400), (b"[1", JSON, 400), (b"", JSON, 400)],
)
def test_a_signal_that_cannot_be_read_is_refused(body: bytes, kind: str, expected: int) -> None:
    machine, phone = associated()
    tunnel = machine.subscribers["laptop"].tunnels[0]
    (command,) = tunnelled(machine, bytes(phone.request("MESSAGE", body, kind)), tunnel)
    assert in_tunnel(command)[1].status == expected


def test_what_is_no_sip_in_a_tunnel_is_counted() -> None:
    machine, phone = associated()
    tunnel = machine.subscribers["laptop"].tunnels[0]
    assert tunnelled(machine, b"hello", tunnel) == []
    answer = message.response(phone.request("MESSAGE", b"{}", JSON), 200)
    assert tunnelled(machine, bytes(answer), tunnel) == []
    assert machine.handle(events.InnerReceived(HOST, tunnel, b"\x45", OUTER), 1.0) == []
    assert machine.handle(events.InnerReceived(AssociationId(99), tunnel, b"", OUTER), 1.0) == []


def test_a_signal_on_a_connection_is_taken_from_whoever_registered_on_that_very_one() -> None:
    machine, phone = associated()
    machine.handle(events.TunnelMoved(machine.subscribers["laptop"].tunnels[0], OUTER), 0.5)
    _, order = phone.send(handover(phone), 1.0)
    assert isinstance(order, MoveFlows)
    (answer,) = machine.handle(events.FlowsMoved(HOST, 1, ({MoveResult.MOVED: 1},)), 1.1)
    assert isinstance(answer, Send)
    assert answer.origin == 1
    other = Phone(machine, origin=2)
    assert status(other.send(handover(other), 2.0)) == 403
    assert machine.refused["unregistered"] == 1


def test_a_signal_over_udp_outside_of_a_tunnel_is_refused() -> None:
    _, phone = associated(transport="UDP")
    assert status(phone.send(handover(phone), 1.0)) == 403


def test_a_data_path_that_does_not_answer_does_not_leave_the_host_without_answer() -> None:
    machine, phone = associated()
    tunnel = machine.subscribers["laptop"].tunnels[0]
    tunnelled(machine, bytes(handover(phone)), tunnel, 1.0)
    assert machine.deadline() == 1.0 + PATIENCE
    (command,) = machine.tick(1.0 + PATIENCE)
    assert msgspec.json.decode(in_tunnel(command)[1].body)["again"] is True


def test_where_tunnels_are_is_known_again_after_a_restart() -> None:
    machine, phone = associated()
    tunnel, other = machine.subscribers["laptop"].tunnels[:2]
    successor = anchor(*machine.subscribers.values())
    successor.start(fresh_secrets=False)
    successor.handle(events.State(None, (), (), (), (), (), {other: OUTER}), 0.0)
    body = b'{"mType":"HandoverRequest","move":1,"rows":[{"all":true,"tunnelID":[%d]}]}' % other
    _, order = tunnelled(successor, bytes(phone.request("MESSAGE", body, JSON)), tunnel)
    assert isinstance(order, MoveFlows)
    assert order.moves[0].tunnel == other
