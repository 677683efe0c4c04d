"""The policy language: what each key becomes, and what is said of every mistake."""

import tomllib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sojourn.errors import ConfigError
from sojourn.policy.language import DEFAULT_ORDER, KEYS, MAX_POLICIES, Context, Reading, parse, read, rules_of
from sojourn.policy.match import parse as parse_match
from sojourn.policy.presets import PRESETS
from sojourn.policy.rules import DEFAULT, Order, Otherwise, Policy, Require, Rule, Subject, Via

USERS = {"alice": 1000}.get


def reading(text: str, order: tuple[str, ...] = DEFAULT_ORDER, networks: frozenset[str] | None = None) -> Reading:
    return read(tomllib.loads(text).get("policy", ()), Context("host.toml", text, order, networks, USERS))


def policy(body: str, order: tuple[str, ...] = DEFAULT_ORDER) -> Policy:
    found = reading("[[policy]]\n" + body, order)
    assert found.errors == ()
    return found.policies[0]


def errors(body: str) -> list[str]:
    return [str(problem) for problem in reading("[[policy]]\n" + body).errors]


def test_the_design_s_example_is_read_as_it_is_meant() -> None:
    text = """
        [[policy]]
        application = "zoom"
        networks = ["ethernet", "wifi", "cellular"]
        require = { loss = "2%", rtt = "150ms" }
        [[policy]]
        application = "backup"
        networks = ["wifi", "ethernet"]        # never cellular
        otherwise = "hold"
    """
    zoom, backup, default = reading(text).policies
    assert zoom == Policy(
        "zoom", Subject(applications=("zoom",)), ("ethernet", "wifi", "cellular"), Require(rtt=0.15, loss=0.02), line=2
    )
    assert (backup.networks, backup.otherwise, backup.line) == (("wifi", "ethernet"), Otherwise.HOLD, 6)
    assert default == Policy(DEFAULT, networks=("ethernet", "wifi", "cellular", "*"))
    assert rules_of((zoom, backup, default)) == (Rule("zoom", zoom.subject), Rule("backup", backup.subject))


def test_without_policies_the_general_order_is_the_policy_of_everything() -> None:
    assert reading("", order=("office", "wifi")).policies == (Policy(DEFAULT, networks=("office", "wifi", "*")),)


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        ('application = ["a", "b*"]', Subject(applications=("a", "b*"))),
        ('executable = "/usr/bin/ssh"', Subject(executables=("/usr/bin/ssh",))),
        ('command = "sshd"', Subject(commands=("sshd",))), ('unit = "ssh.service"', Subject(units=("ssh.service",))),
        ('cgroup = "/user.slice"', Subject(cgroups=("/user.slice",))),
        ('container = "docker"', Subject(containers=("docker",))),
        ('user = ["alice", 7, 1000]', Subject(users=(1000, 7))),
        ("port = 22", Subject(match=(parse_match("--dport 22"),))),
        ('port = [22, "5000-5100"]\nprotocol = "udp"',
         Subject(match=(parse_match("-p udp --dport 22"), parse_match("-p udp --dport 5000:5100")))),
        ('local_port = "8080"', Subject(match=(parse_match("--sport 8080"),))),
        ('match = "-p tcp --dport 80"', Subject(match=(parse_match("-p tcp --dport 80"),))),
        ('destination = ["192.0.2.9/24", "*.Example.ORG.", "2001:db8::/32"]',
         Subject(destinations=("192.0.2.0/24", "2001:db8::/32"), names=("*.example.org",))),
    ],
)  # fmt: skip
def test_whom_a_policy_speaks_of(body: str, subject: Subject) -> None:
    assert policy(body).subject == subject


def test_what_a_network_must_be() -> None:
    body = """
        require = { rtt = "150ms", loss = 0.02, jitter = "20ms", rate = "5Mbit/s", signal = "40%", metered = false,
                    cost = "free", security = ["trusted", "encrypted"], under_cap = true, time = "mon-fri 08:00-18:00" }
    """.replace("\n                    ", " ")
    assert policy(body).require == Require(
        0.15, 0.02, 0.02, 5e6, 0.4, False, ("free",), ("trusted", "encrypted"), True, ("mon-fri 08:00-18:00",)
    )


def test_the_other_keys() -> None:
    made = policy(
        'name = "Calls"\norder = "performance"\nvia = "anchor"\notherwise = "ask"\ncopies = 2\nstay = true\n'
        'minimum_stay = "1min"\nask_timeout = "10s"\nask_default = "any"\n'
    )
    assert (made.label, made.order, made.via, made.otherwise) == ("Calls", Order.PERFORMANCE, Via.ANCHOR, Otherwise.ASK)
    assert (made.copies, made.stay, made.minimum_stay, made.ask_timeout) == (2, True, 60.0, 10.0)
    assert made.ask_default is Otherwise.ANY


def test_any_other_network_means_the_rest_of_the_general_order() -> None:
    order = ("office", "wifi", "cellular")
    assert policy('networks = ["wifi", "*"]', order=order).networks == ("wifi", "office", "cellular", "*")
    assert policy('networks = ["*", "wifi"]', order=order).networks == ("office", "cellular", "*", "wifi")
    assert policy('networks = ["wifi", "any"]', order=order).networks == ("wifi", "office", "cellular", "*")
    assert policy("copies = 2", order=order).networks == ("office", "wifi", "cellular", "*")


def test_a_policy_without_a_name_is_called_by_what_it_speaks_of_and_no_two_alike() -> None:
    bodies = ['application = "zoom"', 'executable = "/usr/bin/ssh"', "port = 22", 'destination = "10.0.0.0/8"', "",
              'match = "-p udp"', 'application = "zoom"\nport = 5']  # fmt: skip
    made = reading("".join(f"[[policy]]\n{body}\n" for body in bodies)).policies
    assert [one.label for one in made] == [
        "zoom", "ssh", "port 22", "10.0.0.0_8", "everything", "match", "zoom (2)", DEFAULT,
    ]  # fmt: skip


# Presets.


def preset(name: str, more: str = "") -> Policy:
    return policy(f'preset = "{name}"\n{more}')


def test_the_original_s_presets() -> None:
    everything = ("ethernet", "wifi", "cellular", "*")
    assert (preset("Any").order, preset("Any").networks) == (Order.STICKY, everything)
    listed = preset("PriorityList", 'networks = ["wifi", "ethernet"]')
    assert (listed.networks, listed.otherwise) == (("wifi", "ethernet"), Otherwise.BLOCK)
    assert preset("Static", 'networks = "wifi"').otherwise is Otherwise.HOLD
    assert preset("Block").blocked
    better = preset("PerformancePriorityList", 'networks = ["wifi"]\nrequire = { rtt = "100ms", loss = "2%" }')
    assert (better.require, better.otherwise) == (Require(rtt=0.1, loss=0.02), Otherwise.ANY)
    assert preset("VoipPerformance").order is Order.VOIP
    free = preset("OnlyFree", 'require = { rtt = "1s" }')
    assert free.require == Require(rtt=1.0, metered=False, cost=("free",))
    assert free.otherwise is Otherwise.HOLD
    assert preset("WiredBeforeWireless").networks == everything
    assert preset("BestPerformance").order is Order.PERFORMANCE


def test_the_policy_s_own_keys_go_before_the_preset_s() -> None:
    assert preset("OnlyFree", 'otherwise = "any"').otherwise is Otherwise.ANY


def test_every_preset_that_needs_nothing_stands_alone() -> None:
    for name, one in PRESETS.items():
        assert one.needs or preset(name).preset == name


# Mistakes.


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('aplication = "x"', "host.toml:2: policy[0].aplication: there is no such key. Did you mean 'application'?"),
        ("zzz = 1", f"host.toml:2: policy[0].zzz: there is no such key. Known keys: {', '.join(KEYS)}."),
        ('\nrequire = { los = "2%" }',
         "host.toml:3: policy[0].require.los: there is no such key. Did you mean 'loss'?"),
        ('require = { rtt = "150" }', "host.toml:2: policy[0].require.rtt: '150' is no time. "
         'Write a number and one of us, ms, s, min, h, like "150ms".'),
        ("require = { loss = 2 }", "host.toml:2: policy[0].require.loss: 2 is not from 0 to 1. Do you mean \"2%\"?"),
        ('require = { rate = "5" }', "host.toml:2: policy[0].require.rate: '5' is no rate. "
         'Write it like "5Mbit/s" or "500kbit/s".'),
        ('preset = "VoipPerf"', "host.toml:2: policy[0].preset: there is no preset 'VoipPerf'. "
         "Did you mean 'VoipPerformance'?"),
        ('preset = "Static"', "host.toml:2: policy[0].preset: Static needs `networks`. "
         'Add it, like networks = ["wifi"].'),
        ('preset = "Static"\nnetworks = ["a", "b"]', "host.toml:3: policy[0].networks: Static is one network. "
         'Name one, like networks = ["wifi"].'),
        ('user = "bob"', "host.toml:2: policy[0].user: there is no user 'bob' here. "
         "Check the spelling, or give the user id as a number."),
        ("port = 70000", "host.toml:2: policy[0].port: 70000 is no port. Write 22, \"5000-5100\" or a list of these."),
        ('match = "--bogus 1"', "host.toml:2: policy[0].match: match has no meaning at '--bogus' '--bogus 1'. "
         "Write it like '-p tcp --dport 22'."),
        ('match = "-p tcp"\nport = 1', "host.toml:2: policy[0].match: stands beside protocol or port. "
         "Write the rule in one of the two forms."),
        ('destination = "10.0.0/8"', "host.toml:2: policy[0].destination: '10.0.0/8' is no network and no name. "
         'Write it like "192.0.2.0/24", "*.example.org".'),
        ('protocol = "quic"', "host.toml:2: policy[0].protocol: 'quic' is no protocol. "
         "Write one of tcp, udp, icmp, icmpv6, ipv6-icmp, sctp, esp, gre, or its number in quotes."),
        ('executable = "ssh"', "host.toml:2: policy[0].executable: 'ssh' is no whole path. "
         "Write it like /usr/bin/ssh, or use `application`."),
        ('command = "a-very-long-command"', "host.toml:2: policy[0].command: 'a-very-long-command' is longer than the "
         "15 bytes that a kernel keeps. Write 'a-very-long-com'."),
        ("networks = []", "host.toml:2: policy[0].networks: is empty: no flow could go anywhere. "
         'Name some, like ["wifi", "*"], or write preset = "Block".'),
        ("copies = 9", "host.toml:2: policy[0].copies: 9 is no number from 1 to 4. Write it without quotes."),
        ('copies = 2\nvia = "direct"', "host.toml:2: policy[0].copies: copies are made for an anchor to sort out, "
         'not for via = \'direct\'. Remove it, or write via = "anchor".'),
        ('stay = "yes"', "host.toml:2: policy[0].stay: 'yes' is not true or false. Write it without quotes."),
        ('otherwise = "wait"', "host.toml:2: policy[0].otherwise: 'wait' is not known here. "
         "Write one of hold, any, direct, block, ask."),
        ('name = "a/b"', "host.toml:2: policy[0].name: 'a/b' cannot be a name. "
         "Use at most 52 letters, no '/' and no ':'."),
        ('otherwise = "ask"\nask_default = "ask"', "host.toml:3: policy[0].ask_default: a question cannot answer "
         'itself. Write "hold", "any" or "block".'),
        ('ask_timeout = "0s"', "host.toml:2: policy[0].ask_timeout: is not between 1 s and 24 h. "
         'Write it like "30s".'),
        ('require = "fast"', "host.toml:2: policy[0].require: is not a table. "
         'Write it like { loss = "2%", rtt = "150ms" }.'),
        ('require = { time = "monday" }', "host.toml:2: policy[0].require.time: 'monday' has no day 'monday'. "
         "Days are mon, tue, wed, thu, fri, sat, sun; "
         'write it like "mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00".'),
        ('application = ""', "host.toml:2: policy[0].application: a text is empty or longer than 255 characters. "
         "Shorten it or remove it."),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_line_key_and_remedy(body: str, said: str) -> None:
    assert errors(body) == [said]


def test_all_mistakes_are_told_at_once_and_the_right_policies_are_kept() -> None:
    text = '[[policy]]\nfoo = 1\nuser = "bob"\n[[policy]]\nport = 22\n[[policy]]\nvia = "x"\n'
    found = reading(text)
    assert [(problem.line, problem.key) for problem in found.errors] == [
        (2, "policy[0].foo"), (3, "policy[0].user"), (7, "policy[2].via"),
    ]  # fmt: skip
    assert [one.label for one in found.policies] == ["port 22", DEFAULT]


def test_two_policies_cannot_have_one_name() -> None:
    found = reading('[[policy]]\nname = "a"\nport = 1\n[[policy]]\nname = "a"\nport = 2\n')
    assert [str(one) for one in found.errors] == [
        "host.toml:5: policy[1].name: 'a' is the name of policy[0] already. Give each policy a name of its own."
    ]


def test_too_many_policies_are_refused() -> None:
    found = read([{"port": 1}] * (MAX_POLICIES + 1), Context())
    assert "policies" in found.errors[0].why
    assert len(found.policies) == MAX_POLICIES + 1


def test_parse_stops_at_the_first_mistake() -> None:
    with pytest.raises(ConfigError, match=r"host.toml: policy\[0\].x: there is no such key"):
        parse([{"x": 1}], Context())
    assert parse([], Context())[-1].label == DEFAULT


# Warnings.


def test_a_rule_that_is_never_reached_and_a_network_that_nothing_is_called_are_warnings() -> None:
    text = """[[policy]]
networks = ["wlan1", "wifi", "ethernett"]
[[policy]]
port = 22
"""
    found = reading(text, networks=frozenset({"wlan0", "Home"}))
    assert found.errors == ()
    assert [str(one) for one in found.warnings] == [
        "host.toml:2: policy[0].networks: no network is called 'wlan1' now. Did you mean 'wlan0'?",
        "host.toml:2: policy[0].networks: no network is called 'ethernett' now. Did you mean 'ethernet'?",
        "host.toml:3: policy[1]: is never reached: 'everything' above it covers everything. Move it up, or remove it.",
    ]


def test_a_rule_for_the_same_as_one_above_is_a_warning() -> None:
    found = reading('[[policy]]\napplication = "x"\n[[policy]]\napplication = "x"\n')
    assert ["never reached" in one.why for one in found.warnings] == [True]


def test_pushed_tables_have_no_lines_and_labels_of_their_own() -> None:
    found = read([{"application": "zoom"}, {"bad": 1}], Context("anchor", came_from="anchor", prefix="anchor/"))
    assert found.policies[0].label == "anchor/zoom"
    assert found.policies[0].came_from == "anchor"
    assert str(found.errors[0]).startswith("anchor: policy[1].bad: ")


# Anything.

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
words = st.sampled_from(
    [
        "wifi",
        "*",
        "2%",
        "150ms",
        "5Mbit/s",
        "22",
        "ask",
        "tcp",
        "sat 1:00-2:00",
        "VoipPerformance",
        "free",
        "10.0.0.0/8",
    ]
)
values = st.recursive(
    plain | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=2)
)
requires = st.dictionaries(st.sampled_from(Require.__struct_fields__) | st.text(max_size=5), values, max_size=3)
tables = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), values, max_size=5) | st.builds(
    lambda table, require: {**table, "require": require},
    st.dictionaries(st.sampled_from(KEYS), words, max_size=3),
    requires,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(tables | plain, max_size=3))
@example([{"name": "wifi"}] * 3)
def test_any_tables_at_all_are_policies_or_problems(given_tables: list[Any]) -> None:
    found = read(given_tables, Context("x", "[[policy]]\n" * 3, networks=frozenset({"wlan0"})))
    assert found.policies[-1].label == DEFAULT
    broken = {problem.key.partition("]")[0] for problem in found.errors}
    assert len(found.policies) - 1 + len(broken) == len(given_tables)
    assert len({one.label for one in found.policies}) == len(found.policies)
    assert all(problem.fix and problem.why for problem in (*found.errors, *found.warnings))
