"""A policy written as TOML is read as the same policy."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.policy.language import Context, default_policy, read
from sojourn.policy.match import Match, Term, parse
from sojourn.policy.rules import Order, Otherwise, Policy, Require, Subject
from sojourn.policy.write import describe, toml_of


def again(policy: Policy) -> Policy:
    text = toml_of([policy])
    found = read(tomllib.loads(text)["policy"], Context(text=text))
    assert found.errors == ()
    return replace(found.policies[0], line=None)


def test_presets_are_shown_expanded_with_where_they_come_from() -> None:
    text = '[[policy]]\npreset = "OnlyFree"\napplication = "backup"\nport = [80, "5000-5100"]\n'
    policies = read(tomllib.loads(text)["policy"], Context(text=text)).policies
    assert toml_of(policies) == (
        "[[policy]]   # preset OnlyFree, line 1\n"
        'name = "backup"\napplication = "backup"\nport = [80, "5000-5100"]\n'
        'networks = ["ethernet", "wifi", "cellular", "*"]\nrequire = { metered = false, cost = "free" }\n'
        'otherwise = "hold"\n\n# everything else: networks = ["ethernet", "wifi", "cellular", "*"]\n'
    )


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (Subject(), "everything"), (Subject(applications=("a", "b")), "application a or b"),
        (Subject(users=(7,), match=(parse("-p tcp --dport 22"),)), "user 7, protocol tcp, port 22"),
        (Subject(match=(parse("! -p tcp"),)), "match ! -p 6"),
        (Subject(match=(parse("--sport 8080"),), names=("*.example.org",)),
         "local port 8080, destination *.example.org"),
    ],
)  # fmt: skip
def test_whom_a_policy_speaks_of_is_one_line(subject: Subject, text: str) -> None:
    assert describe(subject) == text


def test_the_default_is_a_comment() -> None:
    assert toml_of([default_policy(("wifi",))]) == '# everything else: networks = ["wifi", "*"]\n'


texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=2, unique=True)
ports = st.none() | st.builds(
    lambda low, more: Term(f"{low}:{min(low + more, 65535)}"), st.integers(0, 65535), st.integers(0, 100)
)
negatable = ports.flatmap(lambda term: st.sampled_from([term, None if term is None else Term(term.value, True)]))
matches = st.builds(
    Match, st.none() | st.builds(Term, st.integers(0, 255).map(str), st.booleans()), st.none(),
    st.none() | st.just(Term("192.0.2.0/24")), negatable, negatable,
).filter(lambda match: match != Match())  # fmt: skip
subjects = st.builds(
    Subject, applications=texts.map(tuple), units=texts.map(tuple),
    users=st.lists(st.integers(0, 99), max_size=2, unique=True).map(tuple),
    match=st.lists(matches, max_size=3, unique=True).map(tuple), destinations=st.sampled_from([(), ("10.0.0.0/8",)]),
    names=st.sampled_from([(), ("*.example.org", "a.b")]),
)  # fmt: skip
thousandths = st.integers(1, 10**6).map(lambda number: number / 1000)
shares = st.integers(0, 1000).map(lambda number: number / 1000)
requires = st.builds(
    Require, st.none() | thousandths, st.none() | shares, st.none() | thousandths,
    st.none() | st.integers(1, 10**6).map(lambda number: number * 1000.0),
    st.none() | shares, st.none() | st.booleans(),
    st.sampled_from([(), ("free",), ("free", "metered")]), st.sampled_from([(), ("trusted", "open")]), st.booleans(),
    st.sampled_from([(), ("mon-fri 08:00-18:00", "sat")]),
)  # fmt: skip
policies = st.builds(
    Policy, st.sampled_from(["a", "Some name"]), subjects, st.sampled_from([("wifi",), ("a", "b c")]), requires,
    st.sampled_from(list(Order)), otherwise=st.sampled_from(list(Otherwise)), copies=st.integers(1, 4),
    stay=st.booleans(), minimum_stay=st.just(0.0) | thousandths, blocked=st.booleans(),
)  # fmt: skip


@settings(max_examples=200)
@given(policies)
def test_what_is_written_is_read_as_the_same(policy: Policy) -> None:
    found = again(policy)
    numbers = ("rtt", "loss", "jitter", "rate", "signal")
    for name in numbers:
        assert getattr(found.require, name) == pytest.approx(getattr(policy.require, name))
    assert found.minimum_stay == pytest.approx(policy.minimum_stay)
    plain = replace(found, require=policy.require, minimum_stay=policy.minimum_stay, subject=policy.subject)
    assert plain == policy
    assert set(found.subject.match) == set(policy.subject.match)
    assert replace(found.subject, match=()) == replace(policy.subject, match=())
