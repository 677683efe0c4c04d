import hashlib

import pytest

from sojourn.errors import RemoteProtocolError
from sojourn.sip.digest import Algorithm, Qop
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.digest_server import NONCE_LIFE, DigestServer, Failure, Proved, Verifier, make_verifier
from sojourn.sip.message import Request, response
from tests.sip.test_message import plain_request

HERE, THERE = "160.80.100.1", "65.0.0.1"
OWN = make_verifier("alice", "sojourn", "own secret", [Algorithm.SHA256, Algorithm.MD5])
ONCE = make_verifier("alice", "sojourn", "token secret", [Algorithm.SHA256, Algorithm.MD5])


def server(**options: object) -> DigestServer:
    """Return a server with a fixed nonce secret."""
    return DigestServer("sojourn", b"k" * 32, **options)  # type: ignore[arg-type]


def of(user: str) -> list[Verifier]:
    """Return what is kept for a user."""
    return [OWN, ONCE] if user == "alice" else []


class Client:
    """A client that has taken in a challenge of a server."""

    def __init__(self, server: DigestServer, now: float, secret: str = "own secret", user: str = "alice") -> None:
        chance = hashlib.sha256(secret.encode()).digest
        self.digest = DigestClient(user, secret, lambda n: chance()[:n], server.algorithms)
        challenges = [("WWW-Authenticate", str(one)) for one in server.challenges(HERE, now)]
        assert self.digest.challenged(response(plain_request(), 401, headers=challenges))

    def ask(self, body: bytes = b"") -> Request:
        """Return a request with credentials."""
        asked = plain_request()
        asked.body = body
        self.digest.authorize(asked)
        return asked


def test_a_known_secret_is_proved_and_which_one_is_told() -> None:
    anchor = server()
    own = anchor.verify(Client(anchor, 0).ask(), HERE, 1, of)
    token = anchor.verify(Client(anchor, 2, "token secret").ask(), HERE, 3, of)
    assert isinstance(own, Proved)
    assert isinstance(token, Proved)
    assert (own.username, own.which, token.which) == ("alice", 0, 1)


def test_no_credentials_and_those_of_another_realm_are_missing() -> None:
    anchor = server()
    assert anchor.verify(plain_request(), HERE, 0, of) is Failure.MISSING
    other = DigestServer("elsewhere", b"k" * 32)
    assert anchor.verify(Client(other, 0).ask(), HERE, 0, of) is Failure.MISSING


def test_unknown_user_and_wrong_secret_look_the_same() -> None:
    anchor = server()
    assert anchor.verify(Client(anchor, 0, "guess").ask(), HERE, 0, of) is Failure.WRONG
    assert anchor.verify(Client(anchor, 0, user="mallory").ask(), HERE, 0, of) is Failure.WRONG


def test_a_user_without_a_hash_for_the_algorithm_cannot_be_guessed() -> None:
    anchor = server(algorithms=(Algorithm.MD5,))
    only_sha = make_verifier("alice", "sojourn", "own secret", [Algorithm.SHA256])
    assert anchor.verify(Client(anchor, 0).ask(), HERE, 0, lambda user: [only_sha]) is Failure.WRONG


def test_a_repeated_count_is_a_replay_and_a_higher_one_is_not() -> None:
    anchor = server()
    client = Client(anchor, 0)
    first, second = client.ask(), client.ask()
    assert isinstance(anchor.verify(first, HERE, 1, of), Proved)
    assert anchor.verify(first, HERE, 1, of) is Failure.STALE
    assert isinstance(anchor.verify(second, HERE, 1, of), Proved)


@pytest.mark.parametrize("count", [1, 5])
def test_a_nonce_is_stale_after_its_life_or_from_another_source_or_another_process(count: int) -> None:
    anchor = server()
    client = Client(anchor, 10)
    for _ in range(count):
        asked = client.ask()
    assert anchor.verify(asked, HERE, 10 + NONCE_LIFE + 1, of) is Failure.STALE
    assert anchor.verify(asked, HERE, 9, of) is Failure.STALE
    assert anchor.verify(asked, THERE, 11, of) is Failure.STALE
    assert DigestServer("sojourn", b"other" * 8).verify(asked, HERE, 11, of) is Failure.STALE


def test_a_server_may_let_its_nonces_live_longer() -> None:
    anchor = server(nonce_life=3600.0)
    host = Client(anchor, 10)
    assert isinstance(anchor.verify(host.ask(), HERE, 10 + 3599, of), Proved)
    assert anchor.verify(host.ask(), HERE, 10 + 3601, of) is Failure.STALE


def test_two_hosts_behind_one_nat_get_nonces_of_their_own_in_the_same_instant() -> None:
    anchor = server()
    one, other = Client(anchor, 5).ask(), Client(anchor, 5).ask()
    assert isinstance(anchor.verify(one, HERE, 5, of), Proved)
    assert isinstance(anchor.verify(other, HERE, 5, of), Proved)


def test_strangers_cost_no_memory() -> None:
    anchor = server()
    for at in range(50):
        anchor.challenges(HERE, at)
        anchor.verify(Client(anchor, at, "guess").ask(), HERE, at, of)
    assert len(anchor._counts) == 0


def test_a_forgotten_nonce_cannot_be_replayed() -> None:
    anchor = server(max_nonces=2)
    first = Client(anchor, 0).ask()
    assert isinstance(anchor.verify(first, HERE, 0, of), Proved)
    for at in (1, 2, 3):
        assert isinstance(anchor.verify(Client(anchor, at).ask(), HERE, at, of), Proved)
    assert len(anchor._counts) == 2
    assert anchor.verify(first, HERE, 4, of) is Failure.STALE


def test_the_body_is_covered_by_auth_int() -> None:
    anchor = server()
    asked = Client(anchor, 0).ask(b'{"move": 1}')
    asked.body = b'{"move": 2}'
    assert anchor.verify(asked, HERE, 0, of) is Failure.WRONG


def test_credentials_for_another_request_uri_are_malformed() -> None:
    anchor = server()
    asked = Client(anchor, 0).ask()
    asked.uri = "sip:elsewhere"
    with pytest.raises(RemoteProtocolError):
        anchor.verify(asked, HERE, 0, of)


def test_a_qop_that_was_not_offered_is_refused() -> None:
    anchor = server(qops=(Qop.AUTH_INT,))
    lenient = server(qops=(Qop.AUTH,))
    with pytest.raises(RemoteProtocolError):
        anchor.verify(Client(lenient, 0).ask(), HERE, 0, of)


def test_md5_is_not_taken_unless_configured() -> None:
    old = server(algorithms=(Algorithm.MD5,))
    asked = Client(old, 0).ask()
    assert isinstance(old.verify(asked, HERE, 0, of), Proved)
    assert server().verify(asked, HERE, 0, of) is Failure.MISSING


def test_the_strongest_algorithm_is_offered_first() -> None:
    both = server(algorithms=(Algorithm.SHA256, Algorithm.MD5))
    assert [one.algorithm for one in both.challenges(HERE, 0)] == [Algorithm.SHA256, Algorithm.MD5]


def test_secrets_are_not_shown() -> None:
    proved = server().verify(plain_request(), HERE, 0, of)
    assert proved is Failure.MISSING
    assert OWN.a1[Algorithm.SHA256] not in repr(OWN)
