import pytest

from sojourn.errors import ConfigError
from sojourn.linux.capture import (
    DIRECT,
    FIRST_ENTRY,
    KILL,
    LAST_ENTRY,
    Action,
    Capture,
    capture_rules,
    is_network_rule,
    network_rules,
)
from sojourn.linux.interfaces import INET, INET6, MAIN_TABLE
from sojourn.linux.numbers import CAPTURE_TABLE, is_our_priority
from sojourn.linux.rules import Do, Rule
from sojourn.policy.match import parse

LAN_FIRST = Rule(family=INET, priority=5321, do=Do.LOOKUP, target=MAIN_TABLE, only_specific=True, protocol=6)


def entries(captures: list[Capture], family: int = INET) -> list[Rule]:
    rules = capture_rules(family, "10.201.0.7", captures, [], kill_switch=False)
    return [rule for rule in rules if FIRST_ENTRY <= rule.priority <= LAST_ENTRY]


def direct(match: str) -> Capture:
    return Capture(parse(match), Action.DIRECT)


def tunnel(match: str) -> Capture:
    return Capture(parse(match), Action.TUNNEL)


def test_a_direct_entry_jumps_over_the_capture() -> None:
    assert entries([direct("-p tcp -d 198.51.100.0/24 --dport 22 --sport 1000:2000")]) == [
        Rule(
            family=INET,
            priority=5322,
            do=Do.GOTO,
            target=DIRECT,
            protocol=6,
            destination="198.51.100.0/24",
            destination_ports=(22, 22),
            source_ports=(1000, 2000),
        )
    ]


def test_a_tunnel_entry_takes_the_lan_only_when_it_names_a_destination() -> None:
    assert entries([tunnel("-p tcp")]) == [
        LAN_FIRST,
        Rule(family=INET, priority=5322, do=Do.LOOKUP, target=CAPTURE_TABLE, protocol=6),
    ]
    assert entries([tunnel("-d 192.168.1.9")]) == [
        Rule(family=INET, priority=5322, do=Do.LOOKUP, target=CAPTURE_TABLE, destination="192.168.1.9/32")
    ]


def test_what_an_entry_excludes_jumps_over_that_entry_alone() -> None:
    first, second = direct("-p udp ! -d 10.0.0.0/8 ! --dport 53"), direct("-p tcp")
    assert entries([first, second]) == [
        Rule(family=INET, priority=5320, do=Do.GOTO, target=5323, protocol=17, destination="10.0.0.0/8"),
        Rule(family=INET, priority=5320, do=Do.GOTO, target=5323, protocol=17, destination_ports=(53, 53)),
        Rule(family=INET, priority=5323, do=Do.NOP),
        Rule(family=INET, priority=5322, do=Do.GOTO, target=DIRECT, protocol=17),
        Rule(family=INET, priority=5326, do=Do.GOTO, target=DIRECT, protocol=6),
    ]


def test_neighbours_with_one_action_share_their_place_so_that_long_lists_fit() -> None:
    many = [direct(f"-d 198.51.100.{last}") for last in range(200)]
    assert {rule.priority for rule in entries(many)} == {5322}
    turns = [capture for pair in zip(many, [tunnel("-p tcp")] * 20, strict=False) for capture in pair]
    with pytest.raises(ConfigError, match=r"entry 16: .* Order it so that"):
        entries(turns)


def test_each_family_has_the_entries_that_can_match_in_it() -> None:
    captures = [direct("-d 198.51.100.1"), direct("-d 2001:db8::/32"), direct("-p icmp"), direct("-p icmpv6")]
    assert [rule.destination or rule.protocol for rule in entries(captures, INET)] == ["198.51.100.1/32", 1]
    assert [rule.destination or rule.protocol for rule in entries(captures, INET6)] == ["2001:db8::/32", 58]
    # No IPv6 packet goes to an IPv4 prefix, so all meet its negation.
    (rule,) = entries([direct("-p tcp ! -d 10.0.0.0/8")], INET6)
    assert (rule.protocol, rule.destination) == (6, None)
    assert entries([direct("-p tcp ! -d 0.0.0.0/0")], INET) == []


def test_users_are_selected_by_number() -> None:
    (rule,) = entries([Capture(parse(""), Action.DIRECT, (1000, 1999))])
    assert rule.uids == (1000, 1999)


def test_port_zero_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"entry 1.*from 1 to 65535"):
        entries([direct("-p udp --dport 0")])
    assert entries([direct("-p udp --dport :1023")])[0].destination_ports == (1, 1023)


def test_the_kill_switch_is_below_the_capture_and_above_the_owners_rules() -> None:
    off = capture_rules(INET, "10.201.0.7", [], [], kill_switch=False)
    on = capture_rules(INET, "10.201.0.7", [], [], kill_switch=True)
    assert [rule for rule in on if rule not in off] == [Rule(family=INET, priority=KILL, do=Do.UNREACHABLE)]
    assert max(rule.priority for rule in on if rule.target == CAPTURE_TABLE) < KILL < DIRECT


def test_all_rules_are_in_our_block_and_jump_forward_to_a_rule_that_is_there() -> None:
    captures = [direct("-p udp ! -d 10.0.0.0/8"), tunnel("-p tcp")]
    for family, vipa in ((INET, "10.201.0.7"), (INET6, "fd00::7")):
        rules = capture_rules(family, vipa, captures, ["10.201.0.1", "fd00::1"], kill_switch=True)
        places = {rule.priority for rule in rules}
        for rule in rules:
            assert is_our_priority(rule.priority)
            assert not is_network_rule(rule)
            assert rule.do is not Do.GOTO or (rule.target > rule.priority and rule.target in places)


def test_a_networks_rules_stand_above_the_capture() -> None:
    rules = network_rules(INET, "192.168.1.5", "wlan0", 5201)
    assert all(is_network_rule(rule) and rule.priority < FIRST_ENTRY for rule in rules)
    assert [rule.target for rule in rules if rule.source == "192.168.1.5/32"] == [5201, MAIN_TABLE, 5201]
    assert [rule.target for rule in rules if rule.outgoing == "wlan0"] == [MAIN_TABLE, 5201]
