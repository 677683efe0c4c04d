import asyncio
from pathlib import Path

import pytest

from sojourn.linux import rules
from sojourn.linux.interfaces import INET, INET6
from sojourn.linux.rules import Do, Rule, kernel, our_rules, replace_rules
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]

RULES = [
    Rule(family=INET, priority=5320, do=Do.LOOKUP, target=5200, only_specific=True, source="192.0.2.0/24"),
    Rule(family=INET, priority=5321, do=Do.GOTO, target=5399, incoming="lo", source="0.0.0.0/32"),
    Rule(family=INET, priority=5322, do=Do.UNREACHABLE, protocol=6, source_ports=(1, 9), destination_ports=(80, 80)),
    Rule(family=INET6, priority=5323, do=Do.LOOKUP, target=254, outgoing="eth9", destination="2001:db8::/32"),
    Rule(family=INET6, priority=5324, do=Do.GOTO, target=5399, marked=True, uids=(1000, 1999)),
    Rule(family=INET6, priority=5399, do=Do.NOP),
]


async def replaced(wanted: list[Rule]) -> list[Rule]:
    async with kernel() as ask:
        await replace_rules(ask, await our_rules(ask), wanted)
        return await our_rules(ask)


def test_every_selector_comes_back_from_the_kernel_as_it_was_given(namespace: None) -> None:
    assert asyncio.run(replaced(RULES)) == RULES


def test_only_the_difference_changes(namespace: None) -> None:
    asyncio.run(replaced(RULES))
    sh("ip rule add priority 5322 to 198.51.100.1 lookup main")
    assert asyncio.run(replaced(RULES[:2])) == RULES[:2]
    assert "to 198.51.100.1 lookup main" in sh("ip rule"), "the owner's rule in our block was removed"
    assert asyncio.run(replaced([])) == []


def test_a_refusal_of_the_kernel_is_an_os_error(namespace: None) -> None:
    wrong = Rule(family=INET, priority=5350, do=Do.GOTO, target=5340)
    with pytest.raises(OSError, match="Invalid argument"):
        asyncio.run(replaced([wrong]))


def test_a_kernel_without_ipv6_is_not_asked_for_it(namespace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(replaced(RULES))
    monkeypatch.setattr(rules, "IPV6", Path("/nowhere"))
    assert rules.families() == [INET]
    assert [rule.family for rule in asyncio.run(replaced(RULES[:3]))] == [INET] * 3
