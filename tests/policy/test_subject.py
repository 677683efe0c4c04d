"""Whether a rule covers a flow, in plain words and compiled: the two agree."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.model import TCP, UDP, Endpoint, Flow, Origin
from sojourn.policy.match import Match, Term, parse
from sojourn.policy.rules import DEFAULT, Rule, Subject
from sojourn.policy.subject import MAX_OWNERS, compile_rules, covers, speaks_of_everything

SSH = Origin(1, "/usr/bin/ssh", command="ssh", uid=1000, cgroup="/user.slice/user-1000.slice/session-3.scope")
NGINX = Origin(2, "/usr/sbin/nginx", command="nginx", uid=33, cgroup="/system.slice/nginx.service/worker")
BACKUP = Origin(3, "/usr/bin/python3", script="/opt/backup.py", command="backup.py", cgroup="/docker/" + "ab" * 32)


def flow(protocol: int = TCP, remote: str = "192.0.2.7", port: int = 443, local: int = 40000) -> Flow:
    return Flow(protocol, Endpoint("10.201.0.2", local), Endpoint(remote, port))


@pytest.mark.parametrize(
    ("subject", "covered"),
    [
        (Subject(applications=("ssh",)), {1}), (Subject(applications=("s*", "nginx")), {1, 2}),
        (Subject(applications=("SSH",)), set()), (Subject(applications=("python3",)), set()),
        (Subject(executables=("/usr/bin/*",)), {1}), (Subject(executables=("/opt/backup.py",)), {3}),
        (Subject(commands=("backup.py",)), {3}), (Subject(units=("nginx",)), {2}), (Subject(units=("*.scope",)), {1}),
        (Subject(units=("system.slice",)), {2}), (Subject(cgroups=("/system.slice",)), {2}),
        (Subject(cgroups=("/system.slice/nginx",)), set()), (Subject(cgroups=("/user.slice/user-*.slice",)), {1}),
        (Subject(containers=("docker",)), {3}), (Subject(containers=("abababababab",)), {3}),
        (Subject(containers=("podman",)), set()), (Subject(users=(33, 1000)), {1, 2}),
        (Subject(applications=("ssh",), users=(33,)), set()), (Subject(), {1, 2, 3}),
        (Subject(commands=("*",)), {1, 2, 3}),
    ],
)  # fmt: skip
def test_all_that_is_given_of_a_program_must_be_met_and_of_several_values_any(
    subject: Subject, covered: set[int]
) -> None:
    assert {one.owner for one in (SSH, NGINX, BACKUP) if covers(subject, flow(), one)} == covered


def test_what_is_not_known_of_a_program_meets_nothing() -> None:
    assert not covers(Subject(commands=("*",)), flow(), Origin(9))
    assert not covers(Subject(users=(0,)), flow(), None)
    assert covers(Subject(match=(parse("-p tcp"),)), flow(), None)


@pytest.mark.parametrize(
    ("subject", "remote", "covered"),
    [
        (Subject(destinations=("192.0.2.0/24",)), "192.0.2.7", True),
        (Subject(destinations=("192.0.2.0/24",)), "198.51.100.1", False),
        (Subject(destinations=("2001:db8::/32",)), "2001:db8::7", True),
        (Subject(destinations=("2001:db8::/32",)), "192.0.2.7", False),
        (Subject(destinations=("0.0.0.0/0",)), "2001:db8::7", False),
        (Subject(names=("*.example.org",)), "192.0.2.7", True),
        (Subject(names=("example.org",)), "192.0.2.7", False),
        (Subject(names=("*.example.org",), destinations=("203.0.113.0/24",)), "192.0.2.7", True),
        (Subject(names=("*.example.org",), destinations=("203.0.113.0/24",)), "203.0.113.7", True),
        (Subject(names=("*.example.org",)), "203.0.113.7", False),
    ],
)
def test_a_destination_is_met_by_its_network_or_by_its_name(subject: Subject, remote: str, covered: bool) -> None:
    names = {"192.0.2.7": ("www.example.org", "cdn.example.net")}
    assert covers(subject, flow(remote=remote), None, names) is covered
    assert bool(compile_rules([Rule("x", subject)], names)(flow(remote=remote), None)) is covered


def test_names_that_are_learnt_later_count_from_then_on() -> None:
    names: dict[str, tuple[str, ...]] = {}
    label_of = compile_rules([Rule("web", Subject(names=("example.org",)))], names)
    assert label_of(flow(), SSH) == DEFAULT
    names["192.0.2.7"] = ("example.org",)
    assert label_of(flow(), SSH) == "web"


def test_the_first_rule_that_covers_a_flow_gives_the_label() -> None:
    rules = [
        Rule("call", Subject(match=(parse("-p udp --dport 5000:5100"),))),
        Rule("shell", Subject(applications=("ssh",))),
        Rule("https", Subject(match=(parse("-p tcp --dport 443"),))),
    ]
    label_of = compile_rules(rules)
    assert label_of(flow(UDP, port=5050), SSH) == "call"
    assert label_of(flow(), SSH) == "shell"
    assert label_of(flow(), NGINX) == "https"
    assert label_of(flow(port=80), NGINX) == DEFAULT
    assert label_of(flow(port=80), None) == DEFAULT


def test_a_program_whose_cgroup_or_name_changed_is_asked_anew() -> None:
    label_of = compile_rules([Rule("web", Subject(units=("nginx",))), Rule("pinned", Subject(applications=("work",)))])
    assert label_of(flow(), SSH) == DEFAULT
    assert label_of(flow(), Origin(1, cgroup="/system.slice/nginx.service")) == "web"
    assert label_of(flow(), Origin(1, name="work")) == "pinned"


def test_programs_that_are_remembered_are_bounded_in_number() -> None:
    label_of = compile_rules([Rule("x", Subject(users=(7,)))])
    for owner in range(MAX_OWNERS + 100):
        assert label_of(flow(), Origin(owner, uid=owner)) == ("x" if owner == 7 else DEFAULT)
    assert len([cell for cell in label_of.__closure__ or () if isinstance(cell.cell_contents, dict)]) == 1
    assert all(
        len(c.cell_contents) <= MAX_OWNERS for c in label_of.__closure__ or () if isinstance(c.cell_contents, dict)
    )


def test_only_the_empty_subject_speaks_of_everything() -> None:
    assert speaks_of_everything(Subject())
    assert not speaks_of_everything(Subject(users=(0,)))


texts = st.lists(st.sampled_from(["ssh", "s*", "nginx*", "/usr/*", "/opt/backup.py", "*", "docker", "x"]), max_size=2)
terms = st.none() | st.builds(Term, st.sampled_from(["22:22", "443:443", "0:1023"]), st.booleans())
networks = st.none() | st.builds(Term, st.sampled_from(["192.0.2.0/24", "2001:db8::/32", "10.0.0.0/8"]), st.booleans())
matches = st.builds(
    Match, st.none() | st.builds(Term, st.sampled_from(["6", "17"]), st.booleans()), networks, networks, terms, terms
)
subjects = st.builds(
    Subject, *[texts.map(tuple)] * 6, st.lists(st.sampled_from([0, 33, 1000]), max_size=2).map(tuple),
    st.lists(matches, max_size=2).map(tuple), st.lists(st.sampled_from(["*.example.org", "a"]), max_size=1).map(tuple),
    st.lists(st.sampled_from(["192.0.2.0/24", "2001:db8::/48", "::/0"]), max_size=2).map(tuple),
)  # fmt: skip
sparse = st.builds(Subject, applications=texts.map(tuple), match=st.lists(matches, max_size=1).map(tuple)) | subjects
flows = st.builds(
    flow, st.sampled_from([TCP, UDP, 1]), st.sampled_from(["192.0.2.7", "2001:db8::7", "203.0.113.1"]),
    st.sampled_from([22, 443, 5050]), st.sampled_from([22, 40000]),
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(sparse, max_size=5), st.lists(flows, min_size=1, max_size=4))
def test_the_compiled_rules_say_what_the_plain_words_say(subjects: list[Subject], flows: list[Flow]) -> None:
    rules = [Rule(f"rule {place}", subject) for place, subject in enumerate(subjects)]
    names = {"192.0.2.7": ("www.example.org",)}
    label_of = compile_rules(rules, names)
    for one in flows:
        for origin in (SSH, NGINX, BACKUP, None):
            plain = next((rule.label for rule in rules if covers(rule.subject, one, origin, names)), DEFAULT)
            assert label_of(one, origin) == plain


def test_a_new_program_costs_little_also_with_as_many_patterns_as_a_push_may_bring() -> None:
    rules = [
        Rule(f"{rule}", Subject(applications=tuple(f"*a*{rule}x{place}*" for place in range(32)))) for rule in range(64)
    ]
    label_of = compile_rules(rules)
    label_of(flow(), SSH)

    def new_program(owner: int) -> float:
        begin = time.perf_counter()
        assert label_of(flow(), Origin(owner, "/usr/bin/" + "a" * 30, command="a" * 15)) == DEFAULT
        return time.perf_counter() - begin

    assert min(new_program(owner) for owner in range(100, 105)) < 0.05


def test_a_rule_costs_a_new_flow_a_few_microseconds_at_most() -> None:
    rules = [Rule(f"port {port}", Subject(match=(parse(f"-p tcp --dport {port}"),))) for port in range(1, 101)]
    label_of = compile_rules(rules)
    label_of(flow(), SSH)

    def per_rule() -> float:
        begin = time.perf_counter()
        for _ in range(100):
            label_of(flow(port=9999), SSH)
        return (time.perf_counter() - begin) / (100 * len(rules))

    assert min(per_rule() for _ in range(5)) < 5e-6
