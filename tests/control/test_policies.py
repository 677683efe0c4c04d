"""Which policies hold: the owner's first, then what is accepted of a push, and a bad file changes nothing."""

from sojourn.control.policies import MAX_NAMED, PolicyBook, with_addresses
from sojourn.policy.rules import DEFAULT, Policy
from sojourn.upmt.policy_push import PolicyPush, make_push

HEAD = f'anchor = "192.0.2.1"\nspki = "{"0" * 64}"\nuser = "u"\ntid = "t1"\n'
USERS = {"alice": 1000}.get
PUSH = make_push(
    ({"application": "zoom", "networks": ["wifi"]}, {"port": 22, "preset": "OnlyFree"}),
    {"cellular": "metered"},
    ("wifi",),
)


def book(more: str = "") -> PolicyBook:
    made = PolicyBook("host.toml", USERS)
    made.load(HEAD + more)
    assert made.errors == ()
    return made


def labels(policies: tuple[Policy, ...]) -> list[str]:
    return [policy.label for policy in policies]


def test_before_anything_is_read_the_general_order_holds() -> None:
    assert labels(PolicyBook("host.toml", USERS).policies) == [DEFAULT]
    assert book().order == ("ethernet", "wifi", "cellular", "*")


def test_a_file_s_policies_hold_in_its_order_with_users_by_name() -> None:
    made = book('order = ["wifi"]\n[[policy]]\nuser = "alice"\n[[policy]]\napplication = "ssh"\n')
    assert labels(made.policies) == ["user alice", "ssh", DEFAULT]
    assert made.policies[0].subject.users == (1000,)
    assert made.policies[-1].networks == ("wifi", "*")


def test_a_bad_file_keeps_the_old_policies_and_its_mistakes_are_kept_until_it_is_mended() -> None:
    made = book('[[policy]]\napplication = "ssh"\n')
    before = made.policies
    assert not made.load(HEAD + '[[policy]]\naplication = "ssh"\n')
    assert [str(one) for one in made.errors] == [
        "host.toml:6: policy[0].aplication: there is no such key. Did you mean 'application'?"
    ]
    assert made.policies == before
    for text in ("x = [", HEAD + "foo = 1\n", b"\xff", ""):
        assert not made.load(text)
        assert len(made.errors) == 1
        assert made.policies == before
    assert not made.load(HEAD + '\n\n[[policy]]\napplication = "ssh"\n')
    assert made.errors == ()


def test_a_mistake_that_is_no_policy_s_names_its_key() -> None:
    made = book()
    made.load(HEAD + "foo = 1\n")
    assert made.errors[0].key == "foo"
    assert str(made.errors[0]).startswith("host.toml: foo: there is no such key")


def test_of_a_push_nothing_holds_unless_the_owner_accepts_it() -> None:
    made = book()
    assert not made.take(PUSH)
    assert (labels(made.policies), made.costs) == ([DEFAULT], {})
    assert made.load(HEAD + 'accept = ["policies"]\n')
    assert labels(made.policies) == ["anchor/zoom", "anchor/port 22", DEFAULT]
    assert {policy.came_from for policy in made.policies[:2]} == {"anchor"}
    assert made.costs == {}
    assert made.load(HEAD + 'accept = ["costs", "preferences"]\n')
    assert labels(made.policies) == [DEFAULT]
    assert made.costs == {"cellular": "metered"}
    assert made.policies[-1].networks == ("wifi", "*")


def test_the_owner_s_own_policies_and_order_go_before_the_anchor_s() -> None:
    made = book('order = ["ethernet"]\naccept = ["policies", "preferences"]\n[[policy]]\napplication = "zoom"\n')
    assert made.take(PUSH)
    assert labels(made.policies) == ["zoom", "anchor/zoom", "anchor/port 22", DEFAULT]
    assert made.policies[-1].networks == ("ethernet", "*")


def test_what_cannot_be_read_of_a_push_is_left_out_and_told() -> None:
    made = book('accept = ["policies"]\n')
    assert made.take(PolicyPush(1, ({"foo": 1}, {"port": 22}, {"via": "direct"}, {"otherwise": "direct", "port": 1})))
    assert labels(made.policies) == ["anchor/port 22", DEFAULT]
    assert [one.where for one in made.push_errors] == [
        "the anchor's push: policies[0].foo", "the anchor's push: policies[2]", "the anchor's push: policies[3]",
    ]  # fmt: skip
    assert "past the tunnels" in made.push_errors[1].why


def test_the_same_push_again_changes_nothing_and_an_empty_one_takes_it_back() -> None:
    made = book('accept = ["policies"]\n')
    assert made.take(PUSH)
    assert not made.take(PUSH)
    assert made.take(PolicyPush())
    assert labels(made.policies) == [DEFAULT]


def test_a_candidate_shows_what_would_hold_without_changing_anything() -> None:
    made = book('accept = ["policies"]\n')
    made.take(PUSH)
    candidate = made.examine(HEAD + 'accept = ["policies"]\n[[policy]]\nport = 80\n')
    assert labels(made.with_own(candidate)) == ["port 80", "anchor/zoom", "anchor/port 22", DEFAULT]
    assert labels(made.policies) == ["anchor/zoom", "anchor/port 22", DEFAULT]


def test_names_of_networks_that_are_known_are_asked_for_at_each_reading() -> None:
    made = book()
    made.known = lambda: frozenset({"wlan0"})
    assert made.load(HEAD + '[[policy]]\nnetworks = ["wlan1"]\n')
    assert [str(one) for one in made.warnings] == [
        "host.toml:6: policy[0].networks: no network is called 'wlan1' now. Did you mean 'wlan0'?"
    ]


def test_a_file_with_policies_alone_can_be_examined_but_not_loaded() -> None:
    made = book()
    text = 'order = ["wifi"]\n[[policy]]\nport = 80\n'
    assert labels(made.with_own(made.examine(text, partial=True))) == ["port 80", DEFAULT]
    assert made.examine(text).reading.errors[0].why == "this key is missing"
    assert made.examine("[[policy]]\nx = 1\n", partial=True).reading.errors[0].line == 2
    assert made.examine("foo = 1\n", partial=True).reading.errors[0].key == "foo"
    assert "TOML" in made.examine("x = [", partial=True).reading.errors[0].why
    assert made.examine(HEAD + "foo = 1", partial=True).reading.errors[0].key == "foo"


def test_an_order_that_is_tested_counts_for_what_no_policy_covers() -> None:
    made = book()
    assert made.with_own(made.examine('order = ["wifi"]\n', partial=True))[-1].networks == ("wifi", "*")


def test_names_of_destinations_become_addresses_for_whoever_knows_no_names() -> None:
    made = book('[[policy]]\nname = "org"\ndestination = ["*.example.org", "10.0.0.0/8"]\n[[policy]]\nport = 1\n')
    names = {"192.0.2.7": ("a.net", "www.example.org"), "2001:db8::1": ("x.example.org",), "192.0.2.8": ("b.net",)}
    org, port, default = with_addresses(made.policies, names)
    assert org.subject.destinations == ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128")
    assert org.subject.names == ("*.example.org",)
    assert (port, default) == made.policies[1:]
    many = {f"10.1.{count >> 8}.{count & 255}": ("a.example.org",) for count in range(MAX_NAMED + 50)}
    assert len(with_addresses(made.policies, many)[0].subject.destinations) == MAX_NAMED + 1
