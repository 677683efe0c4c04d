from sojourn.sip.digest import Algorithm, Challenge, Qop, parse_credentials
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.digest_server import NONCE_LIFE, Proved
from sojourn.sip.message import Response, response
from tests.sip.test_digest_server import HERE, Client, of, server
from tests.sip.test_message import plain_request


def unauthorized(*challenges: Challenge | str) -> Response:
    """Build a 401."""
    return response(plain_request(), 401, headers=[("WWW-Authenticate", str(one)) for one in challenges])


def client(*algorithms: Algorithm) -> DigestClient:
    """Return a client that knows these algorithms."""
    return DigestClient("alice", "secret", lambda n: b"\7" * n, algorithms or (Algorithm.SHA256,))


def test_nothing_is_sent_before_a_challenge() -> None:
    asked = plain_request()
    client().authorize(asked)
    assert asked.header("Authorization") is None


def test_the_same_rejected_credentials_are_not_sent_again_unless_stale() -> None:
    one = client()
    assert one.challenged(unauthorized(Challenge("r", "n1")))
    one.authorize(plain_request())
    assert one.challenged(unauthorized(Challenge("r", "n2", stale=True)))
    one.authorize(plain_request())
    assert not one.challenged(unauthorized(Challenge("r", "n3")))


def test_the_nonce_is_used_again_with_a_higher_count() -> None:
    one = client()
    one.challenged(unauthorized(Challenge("r", "n1")))
    counts = []
    for _ in range(3):
        asked = plain_request()
        one.authorize(asked)
        read = parse_credentials(asked.header("Authorization") or "")
        assert read is not None
        counts.append(read.count)
    assert counts == [1, 2, 3]


def test_our_own_order_of_algorithms_counts_and_unknown_ones_are_ignored() -> None:
    both = client(Algorithm.SHA256, Algorithm.MD5)
    assert both.challenged(
        unauthorized(
            'Digest realm="r", nonce="0", algorithm=SHA-512-256, qop="auth"',
            Challenge("r", "1", Algorithm.MD5),
            Challenge("r", "2", Algorithm.SHA256),
        )
    )
    asked = plain_request()
    both.authorize(asked)
    assert 'nonce="2"' in (asked.header("Authorization") or "")


def test_md5_alone_is_no_challenge_for_a_client_that_does_not_allow_it() -> None:
    assert not client().challenged(unauthorized(Challenge("r", "1", Algorithm.MD5)))


def test_auth_int_is_chosen_when_offered() -> None:
    for qops, chosen in (((Qop.AUTH, Qop.AUTH_INT), "qop=auth-int"), ((Qop.AUTH,), "qop=auth,")):
        one = client()
        one.challenged(unauthorized(Challenge("r", "1", qops=qops)))
        asked = plain_request()
        one.authorize(asked)
        assert chosen in (asked.header("Authorization") or "")


def test_the_server_proves_that_it_knows_the_secret_and_a_body_that_was_changed_shows() -> None:
    anchor = server()
    host = Client(anchor, 0)
    proved = anchor.verify(host.ask(), HERE, 1, of)
    assert isinstance(proved, Proved)
    headers = [("Authentication-Info", str(proved.info(b"lease")))]
    assert host.digest.confirmed(response(plain_request(), 200, headers=headers, body=b"lease"))
    assert not host.digest.confirmed(response(plain_request(), 200, headers=headers, body=b"other"))
    assert not host.digest.confirmed(response(plain_request(), 200, body=b"lease"))
    garbled = [("Authentication-Info", "rspauth=")]
    assert not host.digest.confirmed(response(plain_request(), 200, headers=garbled, body=b"lease"))


def test_a_next_nonce_saves_the_stale_round() -> None:
    anchor = server()
    host = Client(anchor, 0)
    late = NONCE_LIFE * 0.75
    proved = anchor.verify(host.ask(), HERE, late, of)
    assert isinstance(proved, Proved)
    assert proved.next_nonce is not None
    answer = response(plain_request(), 200, headers=[("Authentication-Info", str(proved.info(b"")))])
    assert host.digest.confirmed(answer)
    assert isinstance(anchor.verify(host.ask(), HERE, late + NONCE_LIFE * 0.9, of), Proved)
