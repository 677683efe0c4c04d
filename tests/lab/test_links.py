import pytest

from sojourn.lab.links import AccessLink, Quality, firewall, rules_of
from sojourn.lab.namespaces import LabError
from sojourn.lab.topology import WIFI


def test_a_sound_link_has_no_rule_that_drops() -> None:
    assert "drop" not in rules_of(Quality())


def test_each_direction_has_its_own_loss() -> None:
    rules = rules_of(Quality(loss_out=0.05, loss_in=0.2))
    assert 'iifname "in" numgen random mod 10000 < 500 drop' in rules
    assert 'iifname "out" numgen random mod 10000 < 2000 drop' in rules


def test_a_loss_too_small_for_the_resolution_is_still_a_loss() -> None:
    assert "< 1 drop" in rules_of(Quality(loss_out=0.000001))


def test_silence_drops_everything_but_what_finds_the_gateway() -> None:
    lines = [line.strip() for line in rules_of(Quality(silent=True)).splitlines()]
    assert lines.index("drop") > lines.index("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept")


def test_a_forgetful_nat_counts_from_outgoing_packets_only() -> None:
    rules = rules_of(Quality(forgets_after=30.0))
    assert "timeout 30s" in rules
    assert 'iifname "in" meta l4proto udp update @seen' in rules
    assert 'iifname "out" meta l4proto udp ip daddr . udp dport != @seen drop' in rules


def test_protocols_without_ports_are_translated_by_the_rule_after_one_with_ports() -> None:
    lines = [line.strip() for line in firewall("meta l4proto { tcp, udp } masquerade to :20000-20999").splitlines()]
    special = lines.index('oifname "out" meta nfproto ipv4 meta l4proto { tcp, udp } masquerade to :20000-20999')
    assert lines[special + 1] == 'oifname "out" meta nfproto ipv4 masquerade'


def test_a_link_without_relay_cannot_be_delayed() -> None:
    with pytest.raises(LabError, match="relayed=True"):
        AccessLink("x-mh", "x-nat0", 0, WIFI).set_delay(20.0)
