"""Subscribers as the registrar sees them."""

import pytest
from msgspec.structs import replace

from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_server import make_verifier
from sojourn.sip.registrar import Binding
from sojourn.upmt.candidates import ORIGINS_KEPT, Candidates, stored
from sojourn.upmt.records import Subscriber

ONCE = make_verifier("laptop", "sojourn", "one-time", (Algorithm.SHA256,))
OWN = make_verifier("laptop", "sojourn", "own", (Algorithm.SHA256, Algorithm.MD5))
RECORD = Subscriber("laptop", "My laptop", stored(ONCE), stored(OWN), "tid-1", "10.201.0.2")


def test_a_record_is_seen_with_its_secrets_its_terminal_and_its_binding() -> None:
    binding = Binding("call", 7)
    candidates = Candidates({"laptop": RECORD}, {"laptop": binding})
    seen = candidates["laptop"]
    assert (seen.user, seen.one_time, seen.own, seen.tid, seen.binding) == ("laptop", ONCE, OWN, "tid-1", binding)
    assert list(candidates) == ["laptop"]


def test_a_record_without_secrets_or_binding_is_seen_without() -> None:
    candidates = Candidates({"new": Subscriber("new", "New")}, {})
    seen = candidates["new"]
    assert (seen.one_time, seen.own, seen.tid, seen.binding) == (None, None, None, None)


def test_a_revoked_user_is_as_unknown_as_any_other() -> None:
    candidates = Candidates({"laptop": replace(RECORD, revoked=True), "other": Subscriber("other", "Other")}, {})
    for user in ("laptop", "nobody"):
        assert candidates.get(user) is None
        with pytest.raises(KeyError):
            candidates[user]
    assert list(candidates) == ["other"]
    assert len(candidates) == 1


def test_later_records_are_seen_at_once() -> None:
    records: dict[str, Subscriber] = {}
    candidates = Candidates(records, {})
    assert len(candidates) == 0
    records["laptop"] = RECORD
    assert "laptop" in candidates


def test_the_newest_connections_of_a_user_are_remembered() -> None:
    candidates = Candidates({}, {})
    for origin in (1, 2, 2, 3, 4, 5):
        candidates.registered("laptop", origin)
    assert list(candidates.origins["laptop"]) == [2, 3, 4, 5]
    assert len(candidates.origins["laptop"]) == ORIGINS_KEPT


def test_a_secret_is_stored_with_its_algorithms_and_never_as_it_is() -> None:
    assert "own" not in stored(OWN)
    assert Candidates({"laptop": RECORD}, {})["laptop"].own == OWN
