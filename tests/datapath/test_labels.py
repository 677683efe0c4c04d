"""Rules and looks: which label a flow has, and how long it waits for somebody to look at its program."""

from sojourn.datapath.labels import MOST_WAITING, PATIENCE, Looks, RuleBook, is_whole, nobody
from sojourn.model import TCP, AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.policy.match import parse
from sojourn.policy.rules import DEFAULT, Rule, Subject
from sojourn.upmt.commands import Placed

A, B = TunnelId(1), TunnelId(2)
ME = AssociationId(1)
FLOW = Flow(TCP, Endpoint("10.201.0.2", 40000), Endpoint("192.0.2.1", 22))
SSH = Origin(7, "/usr/bin/ssh", cgroup="/user.slice")
HALF = Origin(8, command="backup", pid=99)


def rule(label: str, text: str = "", **subject: tuple[str, ...]) -> Rule:
    return Rule(label, Subject(match=(parse(text),) if text else (), **subject))  # type: ignore[arg-type]


def test_the_first_rule_that_covers_a_flow_gives_label_and_place() -> None:
    book = RuleBook()
    assert book.label(FLOW, SSH) == DEFAULT
    shell = Placed(rule("shell", applications=("ssh",)), A, (B,))
    assert book.set((shell, Placed(rule("tcp", "-p tcp"), B)))
    assert (book.label(FLOW, SSH), book.label(FLOW, None)) == ("shell", "tcp")
    assert book.place("shell") is shell
    assert book.place("nobody") is None


def test_a_change_of_places_alone_labels_nothing_anew() -> None:
    book = RuleBook()
    book.set((Placed(rule("tcp", "-p tcp"), A),))
    assert not book.set((Placed(rule("tcp", "-p tcp"), B),))
    place = book.place("tcp")
    assert place is not None
    assert place.tunnel == B
    assert book.set(())
    assert book.label(FLOW, None) == DEFAULT


def test_what_is_known_of_nobody_is_nothing_and_a_program_without_a_path_is_half_known() -> None:
    assert nobody(b"any") is None
    assert is_whole(SSH)
    assert not is_whole(HALF)


def test_one_question_is_asked_for_all_flows_of_a_program_and_one_answer_frees_them() -> None:
    looks = Looks()
    assert looks.wait(b"one", ME, HALF, b"first", 0.0) is True
    assert looks.wait(b"two", ME, HALF, b"other", 0.1) is False
    assert looks.keep(b"one", b"second")
    assert not looks.keep(b"three", b"packet")
    assert looks.deadline() == PATIENCE
    whole = Origin(8, "/usr/bin/restic", cgroup="/system.slice/backup.service")
    assert looks.described(whole) == [b"one", b"two"]
    assert looks.take(b"one") == (ME, whole, b"second")
    assert looks.take(b"one") is None
    assert looks.wait(b"four", ME, HALF, b"packet", 1.0) is None
    assert looks.known(HALF) == whole
    assert looks.deadline() is None


def test_who_waited_long_enough_goes_by_what_is_known() -> None:
    looks = Looks()
    looks.wait(b"one", ME, HALF, b"packet", 0.0)
    assert looks.overdue(PATIENCE - 0.01) == []
    assert looks.overdue(PATIENCE) == [b"one"]
    assert looks.take(b"one") == (ME, HALF, b"packet")
    assert looks.described(Origin(8, "/x", cgroup="/")) == []


def test_no_more_flows_wait_than_there_is_room_for() -> None:
    looks = Looks()
    for number in range(MOST_WAITING):
        looks.wait(number.to_bytes(2), ME, Origin(number), b"packet", 0.0)
    assert looks.wait(b"more", ME, HALF, b"packet", 0.0) is None
    assert len(looks) == MOST_WAITING
