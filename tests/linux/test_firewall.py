import pytest

from sojourn.linux import firewall, nft
from sojourn.linux.firewall import Barrier, forward_remedy, input_remedy, present_barriers
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]

DROPPING = """
table ip filter {
  chain DOCKER-USER {
    iifname "sojourn-a" accept
  }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
  }
  chain INPUT {
    type filter hook input priority filter; policy accept;
    udp dport 1800-1810 accept
    tcp dport { 22, 5061 } accept
    counter drop
  }
  chain OUTPUT {
    type filter hook output priority filter; policy drop;
    accept
  }
}
"""


def test_a_machine_without_a_firewall_has_no_barrier(namespace: None) -> None:
    nft.set_anchor(nft.AnchorRules("sojourn-a", "10.201.0.0/16", "eth0"))
    assert present_barriers() == []


def test_chains_that_drop_by_policy_or_by_their_last_rule_are_found(namespace: None) -> None:
    nft.run(DROPPING)
    found = {barrier.hook: barrier for barrier in present_barriers()}
    assert set(found) == {"forward", "input"}
    assert found["forward"].names("sojourn-a")
    assert not found["forward"].names("sojourn-b")
    assert found["forward"].manager == "docker"
    for port, known in ((1800, True), (1805, True), (1811, False), (5061, True), (22, True), (5060, False)):
        assert found["input"].numbers(port) is known


def test_a_chain_that_drops_only_some_packets_is_none(namespace: None) -> None:
    hook = "type filter hook forward priority 0; policy accept;"
    nft.run(f"table inet own {{\n chain f {{\n {hook}\n tcp dport 25 drop\n }}\n}}\n")
    assert present_barriers() == []


@pytest.mark.parametrize(
    ("table", "words", "manager", "forward", "port"),
    [
        ("filter", {"ufw-before-forward"}, "ufw", "ufw route allow in on dev1", "ufw allow 1800/udp"),
        ("firewalld", set(), "firewalld", "--add-interface=dev1", "--add-port=1800/udp"),
        ("filter", {"DOCKER-USER"}, "docker", "iptables -I DOCKER-USER -i dev1", "udp dport 1800 accept"),
        (
            "own",
            set(),
            "nft",
            "nft insert rule ip own c iifname dev1 accept",
            "nft insert rule ip own c udp dport 1800",
        ),
    ],
)
def test_the_remedy_speaks_the_language_of_whoever_made_the_chain(
    table: str, words: set[str], manager: str, forward: str, port: str
) -> None:
    barrier = Barrier("ip", table, "c", "forward", frozenset(words), frozenset())
    assert barrier.manager == manager
    assert forward in forward_remedy(barrier, "dev1")
    assert port in input_remedy(barrier, 1800, "udp")


def test_the_remedy_for_nft_works(namespace: None) -> None:
    nft.run(DROPPING)
    (barrier,) = (found for found in present_barriers() if found.hook == "forward")
    plain = Barrier(barrier.family, barrier.table, barrier.chain, "forward", frozenset(), frozenset())
    sh(forward_remedy(plain, "sojourn-b"))
    assert any(found.names("sojourn-b") for found in present_barriers())


def test_a_listing_with_unknown_statements_is_read() -> None:
    chain = {"family": "ip", "table": "t", "name": "c", "hook": "input", "policy": "accept"}
    rule = {"family": "ip", "table": "t", "chain": "c", "expr": [{"xt": None}, {"reject": {"type": "icmpx"}}]}
    assert firewall.barriers({"nftables": [{"chain": chain}, {"rule": rule}]}) == []
    last = rule | {"expr": [{"reject": {"type": "icmpx"}}]}
    assert len(firewall.barriers({"nftables": [{"chain": chain}, {"rule": rule}, {"rule": last}]})) == 1
